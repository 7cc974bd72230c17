"""Makes a Python start children by default as another version does: by the method that PYTHON_DEFAULT_START names.

`tests/conftest.py` puts this folder on the path of every program that a test runs. With PYTHON_DEFAULT_START=forkserver
the tests run on Python 3.11 to 3.13 as they do on 3.14, for this package and for the standard library's alike.
"""

import os
import sys

MODULES = ("procession.context", "multiprocessing.context")


def get_all_start_methods(self):
    """As from Python 3.14 on: the default one first. Before it, the standard library knows one order only."""
    default = self._default_context._name
    return [default, *(name for name in ("fork", "spawn", "forkserver") if name != default)]


class _Chooser:
    """Sets the default start method of a module that holds the contexts, at the end of its import."""

    def __init__(self, method):
        self._method = method

    def find_spec(self, name, path=None, target=None):
        if name not in MODULES:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._watch(spec.loader)
                return spec
        return None

    def _watch(self, loader):
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            self.change(module)

        loader.exec_module = exec_module

    def change(self, module):
        """Sets the default start method of that module."""
        module._default_context._default_context = module._concrete_contexts[self._method]
        if sys.version_info < (3, 14) and module.__name__ == MODULES[1]:
            module.DefaultContext.get_all_start_methods = get_all_start_methods


def choose():
    """Has the modules start by the method of the environment, also those that are imported already."""
    method = os.environ.get("PYTHON_DEFAULT_START")
    if method and not any(type(finder).__name__ == _Chooser.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Chooser(method))
        for name in MODULES:
            if name in sys.modules:
                sys.meta_path[0].change(sys.modules[name])


choose()
