"""Statistics about the use of a shared object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Holder", "Statistics"]


class Holder(NamedTuple):
    """The holder of a lock."""

    pid: int  # 0: a process that has ended and left the lock locked
    thread: int  # the result of threading.get_ident() in that process
    process: str  # the name of the process


@dataclass(frozen=True, slots=True)
class Statistics:
    """How all processes together have used a shared object since it was made.

    The numbers are read one after the other while processes use the object, so they may differ slightly from each
    other. multiprocessing has no such statistics.
    """

    name: str | None
    """The name of the object."""

    holder: Holder | None
    """The holder. None: the object is free, or is no Lock and no RLock."""

    waiters: int
    """Number of waits in progress. If a process was killed while it waited, its wait may stay counted."""

    acquisitions: int
    """How often it was acquired. Of an Event: set. Of a Condition: how many waits a notify has ended. Of a Barrier: how
    often all parties went on."""

    contended: int
    """Number of operations that had to wait."""

    total_wait: float
    """Seconds that these have waited together, without the waits in progress."""
