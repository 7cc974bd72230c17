"""`import multiprocessing` means this package, in programs and libraries that do not know of it.

Nothing is imported twice: `multiprocessing.queues` and `procession.queues` are one module object, found under both
names, and its `__name__` and `__spec__` are its own. So a class is pickled as what it is, `procession.queues.Queue`,
and pickles that call it `multiprocessing.queues.Queue` are understood as well.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["install", "installed"]

ALIAS = "multiprocessing"
OURS = __name__.rpartition(".")[0]

# the modules that a program may expect, those for Windows apart
INTERFACE = frozenset(
    (
        "connection",
        "context",
        "dummy",
        "dummy.connection",
        "forkserver",
        "heap",
        "managers",
        "pool",
        "popen_fork",
        "popen_forkserver",
        "popen_spawn_posix",
        "process",
        "queues",
        "reduction",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "sharedctypes",
        "spawn",
        "synchronize",
        "util",
    )
)


def install() -> None:
    """From now on `import multiprocessing`, and every submodule of it, means Procession: here and in all children.

    To be called before anything else imports multiprocessing. If something has, `sys.modules` is put right and later
    imports get ours, but what was taken out of the standard library's package before stays what it is: a name bound by
    `from multiprocessing import Queue`, a module that has it as `mp` (concurrent.futures.process, for one), an object.

    Calling it again changes nothing. Programs started by other means than our processes, with `subprocess` say, are not
    affected.
    """
    if not installed():
        sys.meta_path.insert(0, _finder)
    for name, module in tuple(sys.modules.items()):
        package, _, rest = name.partition(".")
        if package == ALIAS and rest and module is not sys.modules.get(f"{OURS}.{rest}"):
            del sys.modules[name]
    sys.modules[ALIAS] = sys.modules[OURS]


def installed() -> bool:
    """Whether `install()` was called, here or in a parent."""
    return _finder in sys.meta_path


class _Finder:
    """Finds the modules of multiprocessing where ours are."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        ours = f"{OURS}.{rest}" if rest else OURS
        if package != ALIAS or not _exists(ours):
            return None
        from importlib.machinery import ModuleSpec

        # a Loader, without importing the class of that name
        return ModuleSpec(fullname, _SameModule(ours))  # type: ignore[arg-type]


def _exists(name: str) -> bool:
    if name in sys.modules:
        return True
    from importlib.machinery import PathFinder

    parent = sys.modules.get(name.rpartition(".")[0])
    return parent is not None and PathFinder.find_spec(name, getattr(parent, "__path__", None)) is not None


class _SameModule:
    """Loads a module by handing out another one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from importlib import import_module

        module = import_module(self.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # the import system has written the alias's spec over the module's own
        alias = module.__spec__
        assert alias is not None
        module.__spec__ = alias.loader_state


_finder = _Finder()
