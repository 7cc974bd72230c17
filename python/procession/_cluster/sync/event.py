"""Event of a cluster."""

from __future__ import annotations

from ..._sync.base import event_shown
from .handle import Handle, deadline_of
from .statistics import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._sync.statistics import Statistics
    from .call import Here

__all__ = ["Event"]


class Event(Handle):
    """A flag that the processes of a cluster share and can wait for.

    `set` wakes all that wait, also if `clear` follows at once. The death of a process has no effect on it.
    """

    def __init__(self, here: Here, name: str | None = None) -> None:
        self._make(here, "event", name)

    def is_set(self) -> bool:
        """Returns whether the event is set."""
        return bool(self._call("is_set"))

    def set(self) -> None:
        """Sets the event, and wakes all that wait for it."""
        self._surely("set")

    def clear(self) -> None:
        """Makes the event one that is not set."""
        self._surely("clear")

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the event is set.

        Args:
            timeout: seconds; None: without limit.

        Returns:
            whether the event was set in that time.

        Raises:
            ConnectionError: the scheduler or the relay of this machine has gone.
        """
        if timeout is not None and timeout <= 0:
            return self.is_set()
        return bool(self._call("wait", deadline=deadline_of(timeout)))

    async def wait_async(self, timeout: float | None = None) -> bool:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits. Cancelling ends the wait."""
        limit = None if timeout is None else max(0.0, timeout)
        return bool(await self._call_async("wait", timeout=limit))

    def statistics(self) -> Statistics:
        """Returns how all processes have used the object until now: see the fields."""
        return statistics(self)

    def __repr__(self) -> str:
        return event_shown(self)
