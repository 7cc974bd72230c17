"""The condition variable: a lock, and a line of waiters."""

from __future__ import annotations

from time import monotonic

from .. import _core
from ..process import yields
from .base import SEM_VALUE_MAX, Shared, name_shown, ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from ..context import BaseContext
    from ..synchronize import Lock, RLock

    Answer = TypeVar("Answer")

__all__ = ["Condition", "OfLock", "Reading", "guard_with"]


_wait = _core.Condition._wait
_notify = _core.Condition._notify


class Reading:
    """A semaphore of which only the value can be read."""

    __slots__ = ("get_value",)

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


class OfLock:
    """What conditions of one machine and of a cluster have in common: what their lock does, and `wait_for`."""

    __slots__ = ()

    _lock: Any
    acquire: Callable[..., bool]
    release: Callable[[], None]

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a notification; see the derived classes."""
        raise NotImplementedError

    def __getstate__(self) -> Any:
        state: Any = super().__getstate__()
        return *state, self._lock

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *rest, lock = state
        super().__setstate__(tuple(rest))  # type: ignore[misc]
        guard_with(self, lock)

    def __enter__(self) -> bool:
        held: bool = self._lock.__enter__()
        return held

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """As `acquire_async` of the lock."""
        acquired: bool = await self._lock.acquire_async(timeout)
        return acquired

    def locked(self) -> bool:
        """Returns whether a process holds the lock."""
        held: bool = self._lock.locked()
        return held

    def wait_for(self, predicate: Callable[[], Answer], timeout: float | None = None) -> Answer:
        """Waits until predicate() is true. Calls it with the lock held, and again after each notification.

        Args:
            predicate: a function without arguments.
            timeout: seconds for all of it; None: without limit.

        Returns:
            the last result of predicate(), which is false if the time has passed. It raises what `wait` raises.
        """
        end = None if timeout is None else monotonic() + timeout
        while not (answer := predicate()):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return answer

    @property
    def _woken_count(self) -> Reading:
        return Reading(int)

    @property
    def _wait_semaphore(self) -> Reading:
        return Reading(int)


def guard_with(self: OfLock, lock: Any) -> None:
    """Makes this the lock of a condition."""
    self._lock = lock
    # the methods of the lock itself, so that no call stands in between
    self.acquire = lock.acquire
    self.release = lock.release


@yields("handle", "_key", "_sleeping_count", "_woken_count", "_wait_semaphore")
class Condition(OfLock, _core.Condition, Shared):
    """A lock that processes share, with a line of waiters. A process that has changed the data that the lock guards
    notifies them, in the order in which they came.

    **When a process dies** while it waits, `notify` passes over it and wakes the next one; it never waits for an
    answer. (In multiprocessing `notify` waits for an answer of those that it wakes, so that after such a death it
    hangs.) If a process dies while it holds the lock, the rule of the lock applies: the next process that acquires it,
    or that is about to return from `wait`, gets `OwnerDiedError`.

    Example:
        ```python
        import procession as mp

        def child(changed, value):
            with changed:
                value.value = 42
                changed.notify()

        if __name__ == "__main__":
            changed, value = mp.Condition(), mp.RawValue("i", 0)
            mp.Process(target=child, args=(changed, value)).start()
            with changed:
                changed.wait_for(lambda: value.value)
                print(value.value)  # 42
        ```
    """

    __module__ = "procession.synchronize"  # the public name, which pickles use

    def __init__(
        self, lock: Lock | RLock | None = None, *, ctx: BaseContext | None = None, name: str | None = None
    ) -> None:
        """Makes a condition.

        Args:
            lock: a Lock or RLock of this package; None: a new RLock.
            ctx: ignored; conditions work across contexts.
            name: for people to read, and for observers of the running program.

        Raises:
            TypeError: `lock` is neither a Lock nor an RLock of this package.
        """
        if lock is None:
            from ..synchronize import RLock

            lock = RLock() if name is None else RLock(name=name)
        elif not issubclass(type(lock), (_core.Lock, _core.RLock)):  # not those of a cluster
            text = f"a Condition needs a Lock or an RLock, not {lock!r}"
            if "._cluster." in type(lock).__module__:
                text += " of a cluster: use the Condition of the cluster's context"
            raise TypeError(text)
        _core.Condition._create(self)
        self.name = name
        if name is not None:
            _core.Condition._label(self, str(name))
        guard_with(self, lock)

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits for `notify` or `notify_all`, and acquires the lock again.

        Afterwards the thread holds the lock as often as before, also after Ctrl-C or `OwnerDiedError`. If it was
        notified but an exception was raised, the next waiter is notified instead.

        Args:
            timeout: seconds to wait for the notification; None: without limit. The wait for the lock has no limit.

        Returns:
            False if there was no notification in that time.

        Raises:
            AssertionError: this thread does not hold the lock.
        """
        return _wait(self, self._lock, timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits.

        Otherwise as `wait`. A task that is cancelled holds the lock again before the cancellation reaches it; if it had
        been notified, the next waiter is notified instead.
        """
        from .asyncio_wait import attempted

        _must_be_held(self, "wait_async()")
        lock = self._lock
        times = ours(lock)._count(lock)
        ticket = _core.Condition._enlist(self)
        called = False
        try:
            ours(lock)._release_all(lock)
            notified = await attempted(ticket, "notification", lambda: ticket._called() or None, timeout)
            called = bool(notified) or ticket.wait(0)
        except BaseException:
            ticket._drop()
            raise
        finally:
            trouble = await _hold_again_async(lock, times)
            if trouble is not None:
                ticket._drop()
                raise trouble
        if called:
            ticket._heard()
        return called

    def notify(self, n: int = 1) -> None:
        """Wakes the first n waiters, or all if there are fewer. They go on when the lock is released.

        Waiters that have died do not count. AssertionError: this thread does not hold the lock.
        """
        _notify(self, self._lock, min(max(n, 0), SEM_VALUE_MAX))

    def notify_all(self) -> None:
        """Wakes all waiters. AssertionError: this thread does not hold the lock."""
        _notify(self, self._lock, SEM_VALUE_MAX)

    def __repr__(self) -> str:
        try:
            waiting: object = _core.Condition._waiting(self)
        except Exception:  # a condition can be printed in any state
            waiting = "unknown"
        return f"<{type(self).__name__}({getattr(self, '_lock', None)!r}, {waiting}{name_shown(self)})>"

    # For programs that look inside: the values that multiprocessing has while no waiter is returning from wait().

    @property
    def _sleeping_count(self) -> Reading:
        return Reading(lambda: _core.Condition._waiting(self))


def _must_be_held(self: Condition, method: str) -> None:
    if not ours(self._lock)._is_mine(self._lock):
        raise AssertionError(f"the lock of {self!r} has to be acquired before {method}")


async def _hold_again_async(lock: Lock | RLock, times: int) -> BaseException | None:
    """As `_hold_again`. Whether this thread has the lock says nothing here, since another task may have acquired it."""
    trouble = None
    held = False
    while not held:
        try:
            held = await lock.acquire_async()
        except GeneratorExit as error:  # the coroutine is being closed, so it cannot wait in the loop any more
            return _hold_again(lock, times) or error
        except BaseException as error:
            trouble = error
    if times > 1:
        ours(lock)._restore(lock, times)
    return trouble


def _hold_again(lock: Lock | RLock, times: int) -> BaseException | None:
    """Acquires the lock `times` times, despite interrupts; returns the last exception that interrupted it."""
    trouble = None
    # An interrupt may come after the lock was acquired and before `acquire` has returned, so ask the lock.
    is_mine = ours(lock)._is_mine
    while not is_mine(lock):
        try:
            lock.acquire()
        except BaseException as error:
            trouble = error
    if times > 1:
        ours(lock)._restore(lock, times)
    return trouble
