"""The condition variable: a lock, and a line of those who wait for a call."""

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

__all__ = ["Condition"]


_wait = _core.Condition._wait
_notify = _core.Condition._notify


@yields("handle", "_key", "_sleeping_count", "_woken_count", "_wait_semaphore")
class Condition(_core.Condition, Shared):
    """A lock that processes share, with a place to wait for a call from whoever has changed what the lock guards.

    They are called in the order in which they came.

    **When a process dies** while it waits, its place is empty: `notify` passes over it and calls the next one, and
    never waits for an answer. (In multiprocessing `notify` waits for those that it calls, so that after such a death it
    hangs.) When one dies while it holds the lock, the lock's own rule holds: whoever acquires it next, or is about to
    return from `wait`, gets `OwnerDiedError`.
    """

    __module__ = "procession.synchronize"  # where it is found, and what pickles call it

    _lock: Lock | RLock
    acquire: Callable[..., bool]
    release: Callable[[], None]

    def __init__(
        self, lock: Lock | RLock | None = None, *, ctx: BaseContext | None = None, name: str | None = None
    ) -> None:
        """lock: by default a new RLock; TypeError if it is neither a Lock nor an RLock of this package.

        ctx: of no consequence, contexts mix. name: for people to read.
        """
        if lock is None:
            from ..synchronize import RLock

            lock = RLock(ctx=ctx, name=name)
        elif not isinstance(lock, (_core.Lock, _core.RLock)):
            raise TypeError(f"a Condition needs a Lock or an RLock, not {lock!r}")
        _core.Condition._create(self)
        self.name = name
        _guard_with(self, lock)

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._lock

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *rest, lock = state
        super().__setstate__(tuple(rest))
        _guard_with(self, lock)

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, trace)

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """The lock's own `acquire_async`."""
        return await self._lock.acquire_async(timeout)

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._lock.locked()

    def wait(self, timeout: float | None = None) -> bool:
        """Releases the lock, waits to be called by `notify` or `notify_all`, and acquires the lock again.

        timeout: in seconds; None: without limit. It bounds the wait for the call. The lock is then waited for as long
        as it takes. Returns False if there was no call in time.

        AssertionError: this thread does not hold the lock. However it ends, also by Ctrl-C or `OwnerDiedError`, the
        thread holds the lock afterwards, as often as before; and if it was called but an exception was raised, the
        call goes on to the next one in the line.
        """
        return _wait(self, self._lock, timeout)

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        As `wait` in everything else. A task that is cancelled holds the lock again before it learns of it, and a call
        that it had been given goes on to the next in the line.
        """
        from .asyncio_wait import attempted

        _must_be_held(self, "wait_async()")
        lock = self._lock
        times = ours(lock)._count(lock)
        ticket = _core.Condition._enlist(self)
        called = False
        try:
            ours(lock)._release_all(lock)
            called = bool(await attempted(ticket, lambda: ticket._called() or None, timeout)) or ticket.wait(0)
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

    def wait_for(self, predicate: Callable[[], Answer], timeout: float | None = None) -> Answer:
        """Waits until predicate() is true, asking again after each call; it is asked with the lock held.

        timeout: in seconds for all of it; None: without limit. Returns what predicate() has last returned, so something
        false if that took too long. Raises what `wait` raises.
        """
        end = None if timeout is None else monotonic() + timeout
        while not (answer := predicate()):
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return answer

    def notify(self, n: int = 1) -> None:
        """Calls the first n who wait, or all if there are fewer. They go on when the lock is released.

        Those who have died meanwhile do not count. AssertionError: this thread does not hold the lock.
        """
        _notify(self, self._lock, min(max(n, 0), SEM_VALUE_MAX))

    def notify_all(self) -> None:
        """Calls all who wait. AssertionError: this thread does not hold the lock."""
        _notify(self, self._lock, SEM_VALUE_MAX)

    def __repr__(self) -> str:
        try:
            waiting: object = _core.Condition._waiting(self)
        except Exception:  # whatever is wrong with the condition, it can be printed
            waiting = "unknown"
        return f"<{type(self).__name__}({getattr(self, '_lock', None)!r}, {waiting}{name_shown(self)})>"

    # Programs that look inside find what multiprocessing would have there while nobody is on the way out of wait().

    @property
    def _sleeping_count(self) -> _Reading:
        return _Reading(lambda: _core.Condition._waiting(self))

    @property
    def _woken_count(self) -> _Reading:
        return _Reading(int)

    @property
    def _wait_semaphore(self) -> _Reading:
        return _Reading(int)


def _guard_with(self: Condition, lock: Lock | RLock) -> None:
    self._lock = lock
    # the lock's own methods: nothing stands between them and the caller
    self.acquire = lock.acquire
    self.release = lock.release


def _must_be_held(self: Condition, method: str) -> None:
    if not ours(self._lock)._is_mine(self._lock):
        raise AssertionError(f"the lock of {self!r} has to be acquired before {method}")


class _Reading:
    """What can be read of a semaphore that is not there."""

    __slots__ = ("get_value",)

    def __init__(self, get_value: Callable[[], int]) -> None:
        self.get_value = get_value


async def _hold_again_async(lock: Lock | RLock, times: int) -> BaseException | None:
    """As `_hold_again`. That this thread has the lock says nothing here: it may be another task's."""
    trouble = None
    held = False
    while not held:
        try:
            held = await lock.acquire_async()
        except GeneratorExit as error:  # the coroutine is being closed: there is no loop to wait in any more
            return _hold_again(lock, times) or error
        except BaseException as error:
            trouble = error
    if times > 1:
        ours(lock)._restore(lock, times)
    return trouble


def _hold_again(lock: Lock | RLock, times: int) -> BaseException | None:
    """Acquires the lock, so often, whatever comes in between; returns the last exception that did."""
    trouble = None
    # An interrupt may come after the lock was acquired and before that is noted here, so the lock is asked.
    is_mine = ours(lock)._is_mine
    while not is_mine(lock):
        try:
            lock.acquire()
        except BaseException as error:
            trouble = error
    if times > 1:
        ours(lock)._restore(lock, times)
    return trouble
