"""Which modules stand for those of this package when there is no extension, and the finder that gives them out.

A module is not imported twice: `procession.queues` and `multiprocessing.queues` are one module object.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec

from .._alias import INTERFACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["ABSENT", "finder"]

_OURS = "procession"

# modules of this folder, which pass on names of multiprocessing where they have none of their own
_HERE = {
    "_core": "core",
    "_process.stdlib_context": "given_context",
    "_serialize.move": "moves",
    "context": "contexts",
    "process": "processes",
    "reduction": "reductions",
}

# modules of multiprocessing: all but those for which this package has its own
_THEIRS = INTERFACE - {*_HERE, "pool"} | {"popen_spawn_win32"}

# Modules of which there is nothing here, with what programs use instead. They can be imported; each use of their
# functions is an error.
ABSENT = {
    "inspect": "py-spy, which shows the stacks of processes",
    "joblib": 'the backend "loky" of joblib',
    "rust": "a socket or a pipe between the programs",
    "torch": "torch.multiprocessing",
    "_cluster.context": "distributed.Client",
    "_memory.arrays": "numpy arrays in procession.shared_memory.SharedMemory",
    "_memory.shared_dict": "the dict of a procession.Manager()",
}


class _Finder:
    """Finds the twin of a module of this package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != _OURS or not name:
            return None
        if name in _HERE:
            twin = f"{_OURS}._plain.{_HERE[name]}"
        elif name in _THEIRS:
            twin = f"multiprocessing.{name}"
        elif name in ABSENT:
            from .absent import Maker

            return ModuleSpec(fullname, Maker(ABSENT[name]))  # type: ignore[arg-type]  # it has a loader's methods
        else:
            return None
        from .._alias import _SameModule

        return ModuleSpec(fullname, _SameModule(twin))  # type: ignore[arg-type]


finder = _Finder()
