"""Locks, semaphores, conditions, events and barriers that processes share.

All of them are made of a few words in family memory. None takes a system call while nobody waits, and none has a name
in the file system or a descriptor. They can be sent to another process at any time and in any way: as an argument,
through a queue, in a pool's task. The start method is of no consequence: they work in threads and in processes, however
started, side by side. Every wait sleeps in the kernel without the interpreter; Ctrl-C ends it at once, and the object
is as if that wait had never begun. A process that is killed while it waits delays nobody and takes no wake-up along.

Of multiprocessing's they differ in what happens when a process dies; each class says how.
"""

from __future__ import annotations

from . import _core
from ._sync.barrier import Barrier
from ._sync.base import RECURSIVE_MUTEX, SEM_VALUE_MAX, SEMAPHORE, SemLock, Shared, name_of, name_shown
from ._sync.condition import Condition
from .process import _register_farewell, lending, yields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import BaseContext

__all__ = [
    "RECURSIVE_MUTEX",
    "SEMAPHORE",
    "SEM_VALUE_MAX",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "RLock",
    "SemLock",
    "Semaphore",
]

_register_farewell()


@yields("handle", "_key")
class Lock(_core.Lock, SemLock):
    """A lock that processes share: held by one at a time, and not to be acquired again by the one that holds it.

    Any process may release it, whoever acquired it.

    **When the holder dies.** If the process that last acquired the lock was killed, or ended with an exit code other
    than 0, then what the lock guards may be half changed. The next `acquire`, or one of those that wait in it, raises
    `OwnerDiedError`, which names the dead process; the lock is free again then, and the others never notice. If the
    process came to a regular end, the lock stays held, as in multiprocessing: to acquire in one process and release in
    another is a way to signal.

    multiprocessing has no such rule and waits for ever. robust=False restores that.
    """

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None, robust: bool = True) -> None:
        """ctx: of no consequence, contexts mix. name: for people to read. robust: see above."""
        _core.Lock._create(self, robust)
        self.name = name

    def __repr__(self) -> str:
        try:
            owner = name_of(_core.Lock._holder(self))
        except Exception:  # whatever is wrong with the lock, it can be printed
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner}{name_shown(self)})>"

    # What RLock has in Rust, for Condition and for _semlock.

    def _count(self) -> int:
        return int(_core.Lock._is_mine(self))

    def _release_all(self) -> int:
        self.release()
        return 1

    def _restore(self, count: int) -> None:
        pass

    def _value(self) -> tuple[int, int]:
        return int(not self.locked()), 1


@yields("handle", "_key")
class RLock(_core.RLock, SemLock):
    """A lock that processes share, and that the thread which holds it may acquire again.

    It is free when that thread has released it as often as it has acquired it. No other thread or process may: for
    them `release` raises AssertionError.

    **When the holder dies**, in whatever way, nobody can ever release the lock. So the next `acquire`, or one of those
    that wait in it, raises `OwnerDiedError`, which names the dead process; the lock is free again then, and the others
    never notice. Unlike with `Lock` that holds for a regular end as well.

    multiprocessing has no such rule and waits for ever. robust=False restores that.
    """

    _kind = RECURSIVE_MUTEX

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None, robust: bool = True) -> None:
        """ctx: of no consequence, contexts mix. name: for people to read. robust: see above."""
        _core.RLock._create(self, robust)
        self.name = name

    def __repr__(self) -> str:
        try:
            holder = _core.RLock._holder(self)
            count = 0 if holder is None else _core.RLock._count(self) or "nonzero"
            owner = name_of(holder)
        except Exception:  # whatever is wrong with the lock, it can be printed
            owner = count = "unknown"
        return f"<{type(self).__name__}({owner}, {count}{name_shown(self)})>"

    def _value(self) -> tuple[int, int]:
        return int(not self.locked()), 1


@yields("handle", "_key")
class Semaphore(_core.Semaphore, SemLock):
    """A number that processes share: `acquire` takes one from it and waits while it is 0, `release` adds to it.

    Any process may release it. Nobody knows who has acquired it, so a process that dies gives nothing back, as in
    multiprocessing.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """value: the first one, from 0 to `SEM_VALUE_MAX` (2147483647), which no release can exceed; else ValueError.

        ctx: of no consequence, contexts mix. name: for people to read.
        """
        _make(self, value, SEM_VALUE_MAX, name)

    def locked(self) -> bool:
        """Whether `acquire` would have to wait now."""
        return self.get_value() == 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({_value_shown(self)}{name_shown(self)})>"

    def _is_mine(self) -> bool:
        return False

    def _count(self) -> int:
        return 0

    def _value(self) -> tuple[int, int]:
        return self.get_value(), _core.Semaphore._most(self)


class BoundedSemaphore(Semaphore):
    """A semaphore whose value never exceeds its first one: `release` raises ValueError instead, and changes nothing.

    Of multiprocessing's it differs in nothing else than `Semaphore` does.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """value: the first and greatest one, from 0 to `SEM_VALUE_MAX` (2147483647); else ValueError.

        ctx: of no consequence, contexts mix. name: for people to read.
        """
        _make(self, value, value, name)

    def __repr__(self) -> str:
        try:
            limit: object = _core.Semaphore._most(self)
        except Exception:  # whatever is wrong with the semaphore, it can be printed
            limit = "unknown"
        return f"<{type(self).__name__}({_value_shown(self)}, maxvalue={limit}{name_shown(self)})>"


def _make(self: Semaphore, value: int, maximum: int, name: str | None) -> None:
    if not 0 <= value <= SEM_VALUE_MAX:
        raise ValueError(f"a semaphore's value is from 0 to {SEM_VALUE_MAX}, not {value}")
    _core.Semaphore._create(self, value, maximum)
    self.name = name


def _value_shown(self: Semaphore) -> str:
    try:
        return f"value={self.get_value()}"
    except Exception:  # whatever is wrong with the semaphore, it can be printed
        return "value=unknown"


@yields("handle", "_key")
class Event(_core.Event, Shared):
    """A flag that processes share, and that they can wait for.

    `set` lets all go who wait, also if `clear` follows at once. A process that dies in `wait` is missed by nobody; in
    multiprocessing the next `set` would hang.
    """

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """The flag is not set. ctx: of no consequence, contexts mix. name: for people to read."""
        _core.Event._create(self)
        self.name = name

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        timeout: in seconds; None: without limit. False if the event was not set in that time. Cancelling ends the wait.
        """
        from ._sync.asyncio_wait import attempted

        generation = _core.Event._generation
        first = generation(self)
        was_set = await attempted(self, lambda: self.is_set() or generation(self) != first or None, timeout)
        return bool(was_set)

    def __repr__(self) -> str:
        try:
            state = "set" if self.is_set() else "unset"
        except Exception:  # whatever is wrong with the event, it can be printed
            state = "unknown"
        return f"<{type(self).__name__} at {id(self):#x} {state}{name_shown(self)}>"


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
