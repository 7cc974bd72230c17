"""The kinds of objects of the hub."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hub import Object

__all__ = ["kinds"]


def kinds() -> dict[str, type[Object]]:
    """Returns the classes by the names that the request "make" has."""
    from .hub_barrier import Barrier
    from .hub_condition import Condition
    from .hub_event import Event
    from .hub_lock import Lock
    from .hub_queue import Queue
    from .hub_semaphore import Semaphore

    return {each.kind: each for each in (Lock, Semaphore, Condition, Event, Barrier, Queue)}
