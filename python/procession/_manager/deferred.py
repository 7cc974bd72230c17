"""Work that finalizers leave, for whoever can do it."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Deferred"]


class Deferred:
    """Does things one at a time and in order, which may be asked for at any moment.

    A finalizer runs wherever the collector happens to find something, also in a thread that is in the midst of this
    very work: it must not wait for it. So it notes what is to be done, and does it only if nobody else is at it; who
    is at it looks at the notes again when it is through.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._notes: deque[Any] = deque()

    def later(self, note: Any) -> None:
        """Has `_do(note)` called, now or when whoever is at work is through. For finalizers, too."""
        self._notes.append(note)
        self._catch_up()

    def _catch_up(self) -> None:
        """Works through the notes. To be called after the lock was released."""
        while self._notes and self._lock.acquire(False):
            try:
                self._work_off()
            finally:
                self._lock.release()

    def _work_off(self) -> None:
        """The same, with the lock held."""
        while self._notes:
            self._do(self._notes.popleft())

    def _do(self, note: Any) -> None:
        raise NotImplementedError
