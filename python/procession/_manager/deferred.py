"""Work that finalizers leave for a thread that can do it."""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Deferred"]


class Deferred:
    """Does work one piece at a time and in order, although it may be requested at any moment.

    A finalizer runs wherever a garbage collection happens, also in a thread that is doing this work: it must not wait
    for it. So it adds a note, and works only if no thread is working; a working thread looks at the notes again when it
    has finished.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._notes: deque[Any] = deque()

    def later(self, note: Any) -> None:
        """Makes `_do(note)` be called, now or when the working thread has finished. Finalizers may call it."""
        self._notes.append(note)
        self._catch_up()

    def _catch_up(self) -> None:
        """Works through the notes. Call it after the lock was released."""
        while self._notes and self._lock.acquire(False):
            try:
                self._work_off()
            finally:
                self._lock.release()

    def _work_off(self) -> None:
        """Works through the notes with the lock held."""
        while self._notes:
            self._do(self._notes.popleft())

    def _do(self, note: Any) -> None:
        raise NotImplementedError
