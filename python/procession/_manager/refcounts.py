"""Which processes refer to which objects of a manager's server, and which of them have ended."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress

from .. import _core, util
from .deferred import Deferred

__all__ = ["ANYBODY", "References", "Watch"]

ANYBODY = "anybody"  # the holder for clients of the standard library, whose end the server does not notice


class References(Deferred):
    """The number of references to each object, for each holder.

    A holder is (pid, start time) of a member of the server's family, the id that a remote process gave itself, or
    `ANYBODY`. dispose(idents) is called, without a lock, for objects without references.
    """

    def __init__(self, dispose: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._dispose = dispose
        self._counts: dict[str, int] = {}
        self._held: dict[Hashable, dict[str, int]] = {}
        self._unwanted: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._counts)

    def counts(self) -> dict[str, int]:
        """Returns the number of references to each object."""
        with self._lock:
            return dict(self._counts)

    def __contains__(self, ident: str) -> bool:
        return ident in self._counts

    def add(self, holder: Hashable, ident: str) -> None:
        """Adds a reference of the holder. Call it with the lock that `dispose` acquires, and `finish` afterwards."""
        with self._lock:
            self._counts[ident] = self._counts.get(ident, 0) + 1
            held = self._held.setdefault(holder, {})
            held[ident] = held.get(ident, 0) + 1

    def drop(self, holder: Hashable, ident: str) -> None:
        """Drops a reference of the holder. Finalizers may call it."""
        self._notes.append((holder, ident))
        self.finish()

    def forget(self, holder: Hashable) -> None:
        """Drops all references of a holder that has ended."""
        self._notes.append((holder, None))
        self.finish()

    def _do(self, note: tuple[Hashable, str | None]) -> None:
        holder, ident = note
        held = self._held.get(holder, {})
        if ident is None:
            self._held.pop(holder, None)
            for ident, count in held.items():
                self._subtract(ident, count)
            return
        if ident not in held and holder != ANYBODY:
            # clients of the standard library may drop what another one of them has taken
            holder, held = ANYBODY, self._held.get(ANYBODY, {})
        if ident in held:
            held[ident] -= 1
            if not held[ident]:
                del held[ident]
                if not held:
                    self._held.pop(holder, None)
            self._subtract(ident, 1)

    def _subtract(self, ident: str, count: int) -> None:
        self._counts[ident] -= count
        if not self._counts[ident]:
            del self._counts[ident]
            self._unwanted.append(ident)

    def finish(self) -> None:
        """Does the work that finalizers have left meanwhile."""
        self._catch_up()
        unwanted = []
        with suppress(IndexError):
            while True:
                unwanted.append(self._unwanted.popleft())
        if unwanted:
            self._dispose(unwanted)


class Watch:
    """Watches the processes that hold references, each with a pidfd, and tells which have ended."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, int]] = {}
        self._known: set[tuple[int, int]] = set()
        self._unwatched: set[tuple[int, int]] = set()  # processes for which there was no descriptor
        self._wakes: int | None = None  # a descriptor that is always ready, when `wait` is to end
        self._closed = False

    def add(self, holder: tuple[int, int]) -> None:
        """Watches that process (pid and start time), until `close` is called."""
        if holder in self._known or self._closed:
            return
        self._known.add(holder)
        self._open(holder)

    def _open(self, holder: tuple[int, int]) -> None:
        try:
            fd = _core.open_sentinel(*holder)
        except OSError as error:
            util.info("the end of process %d is noticed late: %s", holder[0], error)
            self._unwatched.add(holder)
            return
        self._unwatched.discard(holder)
        self._watched[fd] = holder
        self._epoll.register(fd, select.EPOLLIN)

    def wait(self) -> bool:
        """Waits until a process may have ended. Returns false when `close` was called; then it may not be called again.

        One thread at a time may call it, beside the one that calls the other methods.
        """
        self._epoll.poll(1.0 if self._unwatched else 60.0)
        if self._closed:  # no other method uses the epoll from here on
            self._epoll.close()
            if self._wakes is not None:
                os.close(self._wakes)
        return not self._closed

    def ended(self) -> list[tuple[int, int]]:
        """Returns the processes that have ended since the last call. One thread at a time may call it."""
        if self._closed:
            return []
        for holder in tuple(self._unwatched):
            self._open(holder)
        found = []
        for fd, _ in self._epoll.poll(0):
            holder = self._watched.pop(fd)
            self._epoll.unregister(fd)
            os.close(fd)
            self._known.discard(holder)
            found.append(holder)
        return found

    def close(self) -> None:
        """Stops watching, and makes `wait` return, which closes the rest."""
        if self._closed:
            return
        for fd in self._watched:
            os.close(fd)
        self._watched.clear()
        with suppress(OSError):  # without a descriptor, `wait` returns when its time is over
            self._wakes, writer = os.pipe()
            os.close(writer)
            self._epoll.register(self._wakes, select.EPOLLIN)
        self._closed = True  # last: the thread in `wait` closes the epoll as soon as it reads this
