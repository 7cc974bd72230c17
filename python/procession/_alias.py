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


# --- where it does not ---


class _KeyGiver:
    """Gives the standard library's package, when the program imports it, the key of this process.

    In multiprocessing all processes of a program have one key, by which proxies of managers find their servers and
    descriptors find their way. A child of ours may be the first to import that package, or its parent may do so later.

    It finds no modules. It is asked for the next one while `multiprocessing.process` has just been made: that does
    nothing more than to look into `sys.modules`.
    """

    key: bytes | None = None  # the one to give; None: that of this process
    is_given = False

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if not self.is_given and THEIR_PROCESS in sys.modules:
            self.give()

    def give(self) -> None:
        theirs = sys.modules[THEIR_PROCESS]
        current = getattr(theirs, "_current_process", None)
        if current is None:  # not yet
            return
        self.is_given = True
        ours = sys.modules[f"{OURS}.process"]
        if theirs is not ours:
            current.authkey = bytes(ours.current_process().authkey if self.key is None else self.key)


THEIR_PROCESS = f"{ALIAS}.process"
_key_giver = _KeyGiver()


def share_key() -> None:
    """From now on the standard library's package, if the program uses that as well, has the same key as ours."""
    if hasattr(sys.modules.get(THEIR_PROCESS), "_current_process"):
        _key_giver.is_given = True  # it was first, and `process` has taken its key
    elif _key_giver not in sys.meta_path:
        sys.meta_path.insert(0, _key_giver)


def key_of_theirs() -> bytes | None:
    """The key of the standard library's package, if the program has given it another one than ours."""
    ours, theirs = sys.modules[f"{OURS}.process"], sys.modules.get(THEIR_PROCESS)
    if theirs is None or theirs is ours or not hasattr(theirs, "_current_process"):
        return None
    key, other = bytes(ours.current_process().authkey), bytes(theirs.current_process().authkey)
    return None if key == other else other


def take_key(key: bytes | None) -> None:
    """In a child: the standard library's package has this key, now or when it is imported. None: the same as ours."""
    _key_giver.key = key
    if THEIR_PROCESS in sys.modules:
        _key_giver.give()
