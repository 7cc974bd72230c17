"""What a shared object tells about its use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Holder", "Statistics"]


class Holder(NamedTuple):
    """Who holds a lock."""

    pid: int  # 0: a process that has ended and left the lock locked
    thread: int  # as threading.get_ident() tells it in that process
    process: str  # the process's name


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a shared object has been used since it was made, by all processes together.

    The numbers are read one after the other while others go on, so they need not agree with each other to the last one.
    multiprocessing has nothing like it.
    """

    name: str | None
    """The name that it was given."""

    holder: Holder | None
    """Who holds it. None: nobody, or it is no Lock and no RLock."""

    waiters: int
    """Waits under way. One whose process was killed in the midst of it may go on being counted."""

    acquisitions: int
    """How often it was acquired. Of an Event: set. Of a Condition: how many waits were called by a notify. Of a
    Barrier: how often it let everybody through."""

    contended: int
    """How many operations could not go on at once and had to wait."""

    total_wait: float
    """Seconds that they have waited, all together. Waits that are under way are not in it."""
