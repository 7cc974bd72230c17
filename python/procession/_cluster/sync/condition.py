"""Condition of a cluster."""

from __future__ import annotations

from _operator import index

from ..._sync.base import SEM_VALUE_MAX, name_shown
from ..._sync.condition import OfLock, Reading, guard_with
from .handle import Handle, deadline_of
from .locks import Lock, RLock
from .statistics import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..._sync.statistics import Statistics
    from .call import Here

__all__ = ["Condition"]


class Condition(OfLock, Handle):
    """A lock that the processes of a cluster share, with a line of waiters.

    If a process dies while it waits, or its node, `notify` passes over it; if it had been notified already, the next
    waiter is notified instead. If a process dies while it holds the lock, the rule of the lock applies, also to a
    thread that is about to return from `wait`.
    """

    def __init__(self, here: Here, lock: Any = None, name: str | None = None) -> None:
        if lock is None:
            lock = RLock(here, name)
        elif not isinstance(lock, (Lock, RLock)) or lock._here is not here:
            raise TypeError(f"a Condition needs a Lock or an RLock of the same cluster, not {lock!r}")
        self._make(here, "condition", name, lock._number)
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
            ConnectionError: the scheduler or the relay of this machine has gone; the lock is not held.
        """
        return self._call("wait", deadline=deadline_of(timeout), undo=_passed_on, patient=True) is True

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits.

        Otherwise as `wait`. A task that is cancelled holds the lock again before the cancellation reaches it.
        """
        limit = None if timeout is None else max(0.0, timeout)
        return bool(await self._call_async("wait", timeout=limit, undo=_passed_on, patient=True))

    def notify(self, n: int = 1) -> None:
        """Wakes the first n waiters, or all if there are fewer. They go on when the lock is released.

        AssertionError: this thread does not hold the lock.
        """
        self._surely("notify", min(max(index(n), 0), SEM_VALUE_MAX))

    def notify_all(self) -> None:
        """Wakes all waiters. AssertionError: this thread does not hold the lock."""
        self._surely("notify", SEM_VALUE_MAX)

    def statistics(self) -> Statistics:
        """Returns how all processes have used the object until now: see the fields."""
        return statistics(self)

    def __repr__(self) -> str:
        try:
            waiting: object = self._waiting()
        except Exception:  # a condition can be printed in any state
            waiting = "unknown"
        return f"<{type(self).__name__}({getattr(self, '_lock', None)!r}, {waiting}{name_shown(self)})>"

    def _waiting(self) -> int:
        return int(self._call("waiting"))

    # For programs that look inside: the values that multiprocessing has while no waiter is returning from wait().

    @property
    def _sleeping_count(self) -> Reading:
        return Reading(self._waiting)


def _passed_on(answer: Any) -> Any:
    if answer[0] == "ok":
        return ("pass_on", []) if answer[1] else None
    return ("tell", answer[1:5]) if answer[0] == "died" else None
