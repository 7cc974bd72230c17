"""The common part of the objects of `synchronize`: name, pickling, statistics."""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from copyreg import __newobj__  # type: ignore[attr-defined]

from .. import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Handle
    from .statistics import Statistics
else:
    Handle = object

__all__ = ["RECURSIVE_MUTEX", "SEMAPHORE", "SEM_VALUE_MAX", "SemLock", "Shared"]

SEM_VALUE_MAX = 2**31 - 1  # the greatest value of a semaphore
RECURSIVE_MUTEX, SEMAPHORE = 0, 1  # the kinds, as multiprocessing names them


def ours(obj: object) -> Any:
    """Returns the class of this package that is the object's class or a base of it.

    Our code reads there all names that are not of multiprocessing's interface: a derived class, or the object itself,
    may use them for something else.
    """
    return next(kind for kind in type(obj).__mro__ if kind.__module__.partition(".")[0] == "procession")


class Shared(Handle):
    """The Python part of a shared object. Its other base, which comes first, is the class in Rust."""

    __slots__ = ()

    name: str | None

    # It is pickled as its handle, at any time and not only while a process is being started.

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.__getstate__()

    def __getstate__(self) -> tuple[Any, ...]:
        return ours(self).handle.__get__(self), self.name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        handle, self.name = state
        ours(self)._attach(self, handle)

    def statistics(self) -> Statistics:
        """Returns how all processes have used the object until now: see the fields. Takes no lock."""
        from .statistics import Holder, Statistics

        base = ours(self)
        find_holder = getattr(base, "_holder", None)
        holder = None if find_holder is None else find_holder(self)
        waiters, acquisitions, contended, nanoseconds = base._statistics(self)
        return Statistics(
            self.name, None if holder is None else Holder(*holder), waiters, acquisitions, contended, nanoseconds / 1e9
        )


# --- what `__repr__` shows, in any state of an object, of one machine or of a cluster ---


def name_shown(obj: object) -> str:
    """Returns the name; a copy that is being unpickled has none yet."""
    name = getattr(obj, "name", None)
    return "" if name is None else f", name={name!r}"


def value_shown(semaphore: Any) -> str:
    """Returns the value of a semaphore."""
    try:
        return f"value={semaphore.get_value()}"
    except Exception:
        return "value=unknown"


def event_shown(event: Any) -> str:
    """Returns the whole text of an event."""
    try:
        state = "set" if event.is_set() else "unset"
    except Exception:
        state = "unknown"
    return f"<{type(event).__name__} at {id(event):#x} {state}{name_shown(event)}>"


@process.yields("_semlock")
class SemLock(Shared):
    """The common base of Lock, RLock, Semaphore and BoundedSemaphore, for `isinstance`. It has no objects itself."""

    __module__ = "procession.synchronize"  # the public name, which pickles use

    __slots__ = ()

    _kind = SEMAPHORE

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """`acquire` for asyncio: the event loop runs meanwhile, and no thread waits.

        Cancelling ends the wait and leaves the object as it is. An RLock belongs to a thread, so all tasks of a loop
        hold it together.

        Args:
            timeout: seconds; None: without limit.

        Returns:
            whether it was acquired in that time. It raises what `acquire` raises.
        """
        from .asyncio_wait import attempted

        return bool(await attempted(self, "acquire", lambda: self.acquire(False) or None, timeout))

    @property
    def _semlock(self) -> _SemLock:
        """The object that multiprocessing has inside, for programs that use it."""
        return _SemLock(self)

    if TYPE_CHECKING:

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
        def release(self) -> None: ...
        def _is_mine(self) -> bool: ...
        def _count(self) -> int: ...
        def _value(self) -> tuple[int, int]: ...


class _SemLock:
    """A view of a lock or semaphore, with the names of `_multiprocessing.SemLock`."""

    __slots__ = ("_kind", "_whole")

    SEM_VALUE_MAX = SEM_VALUE_MAX

    def __init__(self, whole: SemLock) -> None:
        self._whole = whole
        self._kind: Any = ours(whole)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return self._whole.acquire(block, timeout)

    def release(self) -> None:
        self._whole.release()

    def __enter__(self) -> bool:
        return self._whole.acquire()

    def __exit__(self, *exception: object) -> None:
        self._whole.release()

    def _count(self) -> int:
        """Returns how often this thread has acquired it without releasing it; 0 for a semaphore, which cannot know."""
        count: int = self._kind._count(self._whole)
        return count

    def _is_mine(self) -> bool:
        """Returns whether this thread holds it; False for a semaphore, which cannot know."""
        mine: bool = self._kind._is_mine(self._whole)
        return mine

    def _get_value(self) -> int:
        value: int = self._kind._value(self._whole)[0]
        return value

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def _after_fork(self) -> None:
        """Does nothing: a fork changes nothing here."""

    @property
    def handle(self) -> int:
        """A number that names it in every process. The object lives as long as the process that has read this."""
        return int.from_bytes(self._kind.handle.__get__(self._whole), "little")

    @property
    def kind(self) -> int:
        kind: int = self._kind._kind
        return kind

    @property
    def maxvalue(self) -> int:
        most: int = self._kind._value(self._whole)[1]
        return most

    @property
    def name(self) -> str | None:
        """Its name, for people to read. It has no name in the file system."""
        return self._whole.name

    def __repr__(self) -> str:
        return f"<_semlock of {self._whole!r}>"


def name_of(holder: tuple[int, int, str] | None) -> str:
    """Returns the holder as `repr` shows it: by name only this thread (name of the process, and of the thread if it is
    not the main one)."""
    if holder is None:
        return "None"
    pid, thread, _ = holder
    if pid != os.getpid():
        return "SomeOtherProcess"
    if thread != get_ident():
        return "SomeOtherThread"
    return own_name()


def own_name() -> str:
    """Returns the name of this process, and that of this thread if it is not the main one."""
    name = process.current_process().name
    threading = sys.modules.get("threading")
    if threading is not None and threading.current_thread() is not threading.main_thread():
        name += f"|{threading.current_thread().name}"
    return name
