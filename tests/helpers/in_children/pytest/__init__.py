"""Stands in for pytest in the processes that tests start.

A child of `spawn` or `forkserver` imports the module of its test, and that module imports pytest. Importing pytest
takes ten times as long as importing Procession, and more than everything else that the child does at its start. So
`tests/conftest.py` puts this folder first on `sys.path`, which children get from their parent. Marks and fixtures have
no meaning in a child. Any other name loads pytest itself, which then replaces this module.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


class _Mark:
    """A mark or a fixture: as a decorator it returns what it decorates."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else self


class _Marks:
    def __getattr__(self, name: str) -> _Mark:
        return _Mark()


mark = _Marks()
fixture = _Mark()


def param(*values: Any, **about: Any) -> tuple[Any, ...]:
    """Returns the values of a case: a child has no use for cases."""
    return values


def importorskip(name: str, **about: Any) -> Any:
    """Imports a module. Where it is missing, pytest has skipped the test, which then has no children."""
    return importlib.import_module(name)


def __getattr__(name: str) -> Any:
    """Loads pytest itself, for a name that is not defined above."""
    if name.startswith("__"):
        raise AttributeError(name)
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    found = PathFinder.find_spec("pytest", [folder for folder in sys.path if folder != _FOLDER])
    assert found is not None and found.loader is not None, "pytest is not on the path"
    pytest = sys.modules["pytest"] = module_from_spec(found)
    found.loader.exec_module(pytest)
    # modules that have imported this one keep it
    globals().update({key: value for key, value in vars(pytest).items() if not key.startswith("__")})
    return getattr(pytest, name)


_FOLDER = __file__.rpartition("/pytest/")[0]
