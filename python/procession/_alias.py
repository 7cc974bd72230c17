"""Makes `import multiprocessing` mean this package, for programs and libraries that were written for that one.

No module is imported twice: `multiprocessing.queues` and `procession.queues` are one module object under two names, and
its `__name__` and `__spec__` are its own. So a class is pickled under its own name, `procession.queues.Queue`, and
pickles that name `multiprocessing.queues.Queue` can be unpickled as well.
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

# the modules that a program may import, without those for Windows
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
    """Makes `import multiprocessing`, with every submodule, mean Procession: here and in all children.

    Call it before anything else imports multiprocessing. If something has, `sys.modules` is corrected and later imports
    get ours. But objects that were taken from the standard library's package before stay the same: a name bound by
    `from multiprocessing import Queue`, a module that has it as `mp` (for example concurrent.futures.process).

    Calling it again changes nothing. It has no effect on programs that are started by other means, for example with
    `subprocess`. Without the extension (`procession.native` is False) it does nothing.
    """
    if not sys.modules[OURS].native:
        return
    if not installed():
        sys.meta_path.insert(0, _finder)
    for name, module in list(sys.modules.items()):
        package, _, rest = name.partition(".")
        if package == ALIAS and rest and module is not sys.modules.get(f"{OURS}.{rest}"):
            sys.modules.pop(name, None)
    sys.modules[ALIAS] = sys.modules[OURS]


def installed() -> bool:
    """Returns whether `install()` was called, here or in a parent."""
    return _finder in sys.meta_path


class _Finder:
    """Finds our modules under the names of multiprocessing's."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        ours = f"{OURS}.{rest}" if rest else OURS
        if package != ALIAS or not _exists(ours):
            return None
        from importlib.machinery import ModuleSpec

        # has the methods of a Loader, without importing that class
        return ModuleSpec(fullname, _SameModule(ours))  # type: ignore[arg-type]


def _exists(name: str) -> bool:
    if name in sys.modules:
        return True
    from importlib.machinery import PathFinder

    parent = sys.modules.get(name.rpartition(".")[0])
    return parent is not None and PathFinder.find_spec(name, getattr(parent, "__path__", None)) is not None


class _SameModule:
    """Loads a module by returning another one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from importlib import import_module

        module = import_module(self.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # the import system has replaced the module's spec by that of the alias
        alias = module.__spec__
        assert alias is not None
        module.__spec__ = alias.loader_state


_finder = _Finder()


# --- programs that use both packages ---


class _KeyGiver:
    """Gives the key of this process to the standard library's package when the program imports that.

    In multiprocessing all processes of a program have one key, with which proxies of managers connect to their servers
    and descriptors are fetched. A child of ours may be the first process that imports that package, or its parent may
    import it later.

    It finds no modules. The import system calls it for the next module after `multiprocessing.process` was made; it
    then only looks into `sys.modules`.
    """

    key: bytes | None = None  # the key to give; None: that of this process
    is_given = False

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if not self.is_given and THEIR_PROCESS in sys.modules:
            self.give()

    def give(self) -> None:
        theirs = sys.modules[THEIR_PROCESS]
        current = getattr(theirs, "_current_process", None)
        if current is None:  # the module is not complete yet
            return
        self.is_given = True
        ours = sys.modules[f"{OURS}.process"]
        if theirs is not ours:
            current.authkey = bytes(ours.current_process().authkey if self.key is None else self.key)


THEIR_PROCESS = f"{ALIAS}.process"
_key_giver = _KeyGiver()


def share_key() -> None:
    """Makes the standard library's package, if the program uses it as well, use the same key as ours."""
    if hasattr(sys.modules.get(THEIR_PROCESS), "_current_process"):
        _key_giver.is_given = True  # it was imported first, and `process` has taken its key
    elif _key_giver not in sys.meta_path:
        sys.meta_path.insert(0, _key_giver)


def key_of_theirs() -> bytes | None:
    """Returns the key of the standard library's package, if the program has set it to another one than ours."""
    ours, theirs = sys.modules[f"{OURS}.process"], sys.modules.get(THEIR_PROCESS)
    if theirs is None or theirs is ours or not hasattr(theirs, "_current_process"):
        return None
    key, other = bytes(ours.current_process().authkey), bytes(theirs.current_process().authkey)
    return None if key == other else other


def take_key(key: bytes | None) -> None:
    """Called in a child. Sets the key of the standard library's package, now or when it is imported. None: ours."""
    _key_giver.key = key
    if THEIR_PROCESS in sys.modules:
        _key_giver.give()
