"""Locks, semaphores, conditions, events and barriers that processes share.

They consist of a few words in family memory. An operation takes no system call unless a process has to wait or is
waiting, and the objects have no descriptor and no name in the file system. They can be sent to another process at any
time and in any way: as an argument, through a queue, in a task of a pool. Threads, and processes of all start methods,
can use the same object. A thread that waits sleeps in the kernel and releases the interpreter. Ctrl-C ends the wait at
once, and the object is as if that wait had never begun. A process that is killed while it waits delays no other process
and takes no wake-up with it.

Difference from multiprocessing: what happens when a process dies; each class says it.
"""

from __future__ import annotations

from . import _core
from ._sync.barrier import Barrier
from ._sync.base import (
    RECURSIVE_MUTEX,
    SEM_VALUE_MAX,
    SEMAPHORE,
    SemLock,
    Shared,
    event_shown,
    name_of,
    name_shown,
    value_shown,
)
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
    """A lock that processes share. One holder at a time has it; it cannot acquire it again.

    Any process may release it, not only the one that acquired it.

    **When the holder dies.** If the process that acquired the lock last was killed, or ended with an exit code other
    than 0, the data that the lock guards may be half changed. Then the next `acquire`, or one that waits already,
    raises `OwnerDiedError` once, which names the dead process; the lock is free again, and the others notice nothing.
    If the process ended with exit code 0, the lock stays held, as in multiprocessing: acquiring in one process and
    releasing in another is a way to signal.

    Difference from multiprocessing: it has no such rule and waits for ever. robust=False restores that.

    Example:
        ```python
        import procession as mp

        def append(lock, path):
            with lock:
                with open(path, "a") as file:
                    file.write("a line\\n")

        if __name__ == "__main__":
            lock = mp.Lock()
            writers = [mp.Process(target=append, args=(lock, "lines.txt")) for _ in range(3)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            print(len(open("lines.txt").readlines()))  # 3
        ```
    """

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None, robust: bool = True) -> None:
        """Makes a lock.

        Args:
            ctx: ignored; locks work across contexts.
            name: for people to read, and for observers of the running program.
            robust: False: as in multiprocessing, a lock whose holder died stays held.
        """
        _core.Lock._create(self, robust)
        self.name = name
        if name is not None:
            _core.Lock._label(self, str(name))

    def __repr__(self) -> str:
        try:
            owner = name_of(_core.Lock._holder(self))
        except Exception:  # a lock can be printed in any state
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner}{name_shown(self)})>"

    # The methods that RLock has in Rust, for Condition and for _semlock.

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
    """A lock that processes share. The thread that holds it may acquire it again.

    It is free when that thread has released it as often as it has acquired it. If another thread or process calls
    `release`, that raises AssertionError.

    **When the holder dies**, in any way, no other process can release the lock. So the next `acquire`, or one that
    waits already, raises `OwnerDiedError` once, which names the dead process; the lock is free again, and the others
    notice nothing. Unlike a `Lock` it does so also if the holder ended with exit code 0.

    Difference from multiprocessing: it has no such rule and waits for ever. robust=False restores that.

    Example:
        ```python
        import procession as mp

        lock = mp.RLock()
        with lock:
            with lock:  # this thread holds it already
                print(lock.locked())  # True
        print(lock.locked())  # False
        ```
    """

    _kind = RECURSIVE_MUTEX

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None, robust: bool = True) -> None:
        """Makes a lock.

        Args:
            ctx: ignored; locks work across contexts.
            name: for people to read, and for observers of the running program.
            robust: False: as in multiprocessing, a lock whose holder died stays held.
        """
        _core.RLock._create(self, robust)
        self.name = name
        if name is not None:
            _core.RLock._label(self, str(name))

    def __repr__(self) -> str:
        try:
            holder = _core.RLock._holder(self)
            count = 0 if holder is None else _core.RLock._count(self) or "nonzero"
            owner = name_of(holder)
        except Exception:  # a lock can be printed in any state
            owner = count = "unknown"
        return f"<{type(self).__name__}({owner}, {count}{name_shown(self)})>"

    def _value(self) -> tuple[int, int]:
        return int(not self.locked()), 1


@yields("handle", "_key")
class Semaphore(_core.Semaphore, SemLock):
    """A number that processes share: `acquire` takes one from it and waits while it is 0, `release` adds to it.

    Any process may release it. A semaphore does not know which process has acquired it. So if a process dies, the
    semaphore does not get back what that process took, as in multiprocessing.

    Example:
        ```python
        import procession as mp

        slots = mp.Semaphore(2)
        with slots:
            print(slots.get_value())  # 1
        print(slots.get_value())  # 2
        ```
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """Makes a semaphore.

        Args:
            value: the first value, from 0 to `SEM_VALUE_MAX` (2147483647), which no release can exceed.
            ctx: ignored; semaphores work across contexts.
            name: for people to read, and for observers of the running program.

        Raises:
            ValueError: `value` is outside of that range.
        """
        _make(self, value, SEM_VALUE_MAX, name)

    def locked(self) -> bool:
        """Returns whether `acquire` would have to wait now."""
        return self.get_value() == 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({value_shown(self)}{name_shown(self)})>"

    def _is_mine(self) -> bool:
        return False

    def _count(self) -> int:
        return 0

    def _value(self) -> tuple[int, int]:
        return self.get_value(), _core.Semaphore._most(self)


class BoundedSemaphore(Semaphore):
    """A semaphore whose value never exceeds its first one: `release` raises ValueError instead, and changes nothing.

    It differs from multiprocessing only as `Semaphore` does.
    """

    def __init__(self, value: int = 1, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """Makes a semaphore.

        Args:
            value: the first and greatest value, from 0 to `SEM_VALUE_MAX` (2147483647).
            ctx: ignored; semaphores work across contexts.
            name: for people to read, and for observers of the running program.

        Raises:
            ValueError: `value` is outside of that range.
        """
        _make(self, value, value, name)

    def __repr__(self) -> str:
        try:
            limit: object = _core.Semaphore._most(self)
        except Exception:  # a semaphore can be printed in any state
            limit = "unknown"
        return f"<{type(self).__name__}({value_shown(self)}, maxvalue={limit}{name_shown(self)})>"


def _make(self: Semaphore, value: int, maximum: int, name: str | None) -> None:
    if not 0 <= value <= SEM_VALUE_MAX:
        raise ValueError(f"a semaphore's value is from 0 to {SEM_VALUE_MAX}, not {value}")
    _core.Semaphore._create(self, value, maximum)
    self.name = name
    if name is not None:
        _core.Semaphore._label(self, str(name))


@yields("handle", "_key")
class Event(_core.Event, Shared):
    """A flag that processes share and can wait for.

    `set` wakes all that wait, also if `clear` follows at once. If a process dies in `wait`, that has no effect on
    others; in multiprocessing the next `set` would hang.

    Example:
        ```python
        import procession as mp

        def child(ready):
            ready.set()

        if __name__ == "__main__":
            ready = mp.Event()
            mp.Process(target=child, args=(ready,)).start()
            print(ready.wait(timeout=60))  # True
        ```
    """

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """Makes an event that is not set.

        Args:
            ctx: ignored; events work across contexts.
            name: for people to read, and for observers of the running program.
        """
        _core.Event._create(self)
        self.name = name
        if name is not None:
            _core.Event._label(self, str(name))

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits. Cancelling ends the wait.

        Args:
            timeout: seconds; None: without limit.

        Returns:
            whether the event was set in that time.
        """
        from ._sync.asyncio_wait import attempted

        generation = _core.Event._generation
        first = generation(self)
        was_set = await attempted(self, "set", lambda: self.is_set() or generation(self) != first or None, timeout)
        return bool(was_set)

    def __repr__(self) -> str:
        return event_shown(self)


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
