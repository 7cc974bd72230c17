"""What the objects of `synchronize` have in common: a name, the way they travel, what they tell about themselves."""

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
RECURSIVE_MUTEX, SEMAPHORE = 0, 1  # what multiprocessing calls the kinds


def ours(obj: object) -> Any:
    """The class of this package that an object's class is or derives from.

    Our code finds there what is no part of multiprocessing's interface: under that name a derived class, or the object
    itself, may have something else.
    """
    return next(kind for kind in type(obj).__mro__ if kind.__module__.partition(".")[0] == "procession")


class Shared(Handle):
    """The part of a shared object that is Python. Its other base, which comes first, is the class in Rust."""

    __slots__ = ()

    name: str | None

    # By its handle it can be pickled at any time, not only while a process is being started.

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.__getstate__()

    def __getstate__(self) -> tuple[Any, ...]:
        return ours(self).handle.__get__(self), self.name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        handle, self.name = state
        ours(self)._attach(self, handle)

    def statistics(self) -> Statistics:
        """How it has been used until now, by all processes: see the fields. It takes no lock and disturbs nobody."""
        from .statistics import Holder, Statistics

        base = ours(self)
        find_holder = getattr(base, "_holder", None)
        holder = None if find_holder is None else find_holder(self)
        waiters, acquisitions, contended, nanoseconds = base._statistics(self)
        return Statistics(
            self.name, None if holder is None else Holder(*holder), waiters, acquisitions, contended, nanoseconds / 1e9
        )


def name_shown(obj: Shared) -> str:
    """For `__repr__`, which must work in any state: a copy that is being unpickled has no name yet."""
    name = getattr(obj, "name", None)
    return "" if name is None else f", name={name!r}"


@process.yields("_semlock")
class SemLock(Shared):
    """What Lock, RLock, Semaphore and BoundedSemaphore are, for `isinstance`. It cannot be used by itself."""

    __module__ = "procession.synchronize"  # where it is found, and what pickles call it

    __slots__ = ()

    _kind = SEMAPHORE

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """`acquire` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        timeout: in seconds; None: without limit. False if it was not to be had in that time. Raises what `acquire`
        raises. Cancelling ends the wait and leaves the object as it is. An RLock is the thread's, so all tasks of a
        loop share it.
        """
        from .asyncio_wait import attempted

        return bool(await attempted(self, lambda: self.acquire(False) or None, timeout))

    @property
    def _semlock(self) -> _SemLock:
        """The object as multiprocessing has it inside. For programs that look there."""
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
        """How often this thread has acquired it and not yet released it. Of a semaphore nobody knows: 0."""
        count: int = self._kind._count(self._whole)
        return count

    def _is_mine(self) -> bool:
        """Whether this thread holds it. Of a semaphore nobody knows: False."""
        mine: bool = self._kind._is_mine(self._whole)
        return mine

    def _get_value(self) -> int:
        value: int = self._kind._value(self._whole)[0]
        return value

    def _is_zero(self) -> bool:
        return self._get_value() == 0

    def _after_fork(self) -> None:
        """Nothing is to be mended after a fork."""

    @property
    def handle(self) -> int:
        """A number that names it in every process. The object lives as long as a process that has asked for it."""
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
        """The name that it was given for people to read. There is none in the file system."""
        return self._whole.name

    def __repr__(self) -> str:
        return f"<_semlock of {self._whole!r}>"


def name_of(holder: tuple[int, int, str] | None) -> str:
    """The holder as `repr` shows it: only this very thread by its process's name (and its own, if not the main one)."""
    if holder is None:
        return "None"
    pid, thread, _ = holder
    if pid != os.getpid():
        return "SomeOtherProcess"
    if thread != get_ident():
        return "SomeOtherThread"
    name = process.current_process().name
    threading = sys.modules.get("threading")
    if threading is not None and threading.current_thread() is not threading.main_thread():
        name += f"|{threading.current_thread().name}"
    return name
