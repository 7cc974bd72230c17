"""Reads the input of an `imap` and submits it: in which thread, and how far ahead of the results.

An input that never waits (a list, a range) is read by the thread that fetches the results, which costs least. Any other
input is read by a thread of its own, so that results are handed out while the input waits, even for those results. That
thread submits each chunk before it reads on, and ends with the input.

At most `ahead` items are read and not fetched yet, unless `free` is set: then fetching does not matter any more, and
the input is read to its end, with a limited number of tasks in progress. `free` is set when the pool is joined, and
when the iterator is dropped; the results of a dropped iterator are thrown away.

Only the reader writes `fed`, `sent` and `ended` (`ended` last). Only the consumer writes `given`. So neither needs a
lock for these.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections import deque
from contextlib import suppress

from .errors import error_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from .engine import Group

__all__ = ["Feed", "reads_at_once"]

_NEVER_WAITS = frozenset(
    {list, tuple, range, str, bytes, bytearray, type(iter([])), type(iter(())), type(iter(range(0)))}
)
_COPIED = frozenset({dict, set, frozenset, deque, type({}.keys()), type({}.values()), type({}.items())})

# By default the window grows up to this number of chunks, if their results are fetched quickly.
_MOST_AHEAD = 1024


def reads_at_once(iterable: Iterable[Any]) -> tuple[Iterator[Any], bool]:
    """Returns an iterator over the input, and whether it never waits."""
    kind = type(iterable)
    if kind in _NEVER_WAITS:
        return iter(iterable), True
    if kind in _COPIED:
        return iter(list(iterable)), True
    return iter(iterable), False


class Feed:
    """Reads an input and submits it in chunks. It has no reference to the iterator that a program has."""

    __slots__ = (
        "__weakref__",
        "_adapts",
        "_engine",
        "_gate",
        "_lock",
        "_pid",
        "_refilled",
        "_sleeps",
        "_supervisor",
        "ahead",
        "chunk",
        "ended",
        "failures",
        "fed",
        "free",
        "given",
        "group",
        "inline",
        "last",
        "lazy",
        "sent",
        "source",
    )

    def __init__(
        self, pool: Any, group: Group, source: Iterator[Any], chunk: int, ahead: int | None, inline: bool
    ) -> None:
        """chunk: items per task. ahead: how many items are read at most and not fetched; None: adapted to the pace.
        inline: the consumer reads.
        """
        self._engine = pool._engine
        self._supervisor = pool._supervisor
        self.group = group
        self.source = source
        self.chunk = chunk if ahead is None else min(chunk, ahead)
        self._adapts = ahead is None
        self.ahead = max(8, 4 * pool._processes) * chunk if ahead is None else ahead
        self.inline = inline
        self.fed = 0  # number of items read
        self.sent = 0  # number of tasks submitted
        self.given = 0  # number of items fetched
        self.ended = False  # nothing more will be submitted
        self.free = False  # the window does not matter any more
        # chunks that could not be sent: number of the first item, error, number of items
        self.failures: deque[tuple[int, BaseException, int]] = deque()
        # the error that ended the input before its end; the consumer gets it after all results
        self.last: BaseException | None = None
        # of an executor: when the iterator is dropped or the executor shut down, the rest is not read
        self.lazy = False
        self._refilled = 0.0
        self._pid = os.getpid()
        self._lock = allocate_lock()  # held while the consumer's thread reads, and while that changes
        self._sleeps = False
        self._gate = allocate_lock()  # the reader sleeps here; the thread that clears `_sleeps` opens it
        self._gate.acquire()
        group.feeding(True)
        if inline:
            self._read_ahead()
        else:
            threading.Thread(target=self._run, name="PoolFeeder", daemon=True).start()

    # --- the consumer's side ---

    def more(self) -> None:
        """Reads more of the input, as far as the window allows. Called when half of it was fetched."""
        if self.ended:
            return
        room = self.ahead - (self.fed - self.given)
        now = time.monotonic()
        if self._adapts and now - self._refilled < 0.02 and self.ahead < _MOST_AHEAD * self.chunk and room > 0:
            self.ahead *= 2
        self._refilled = now
        if not self.inline:
            self.wake()
            return
        with self._lock:
            if self.inline:
                self._read_ahead()

    def over(self, collected: int) -> bool:
        """Returns whether no task is in progress any more, if the outcomes of `collected` tasks were collected."""
        return self.ended and self.sent <= collected and not self.failures

    def wait_to_send(self, timeout: float | None) -> bool:
        """Waits, when no task is in progress, until more can be sent, if the consumer reads. Returns whether to look
        again.
        """
        return not self.inline or self._engine.wait_for_room(timeout)

    def lift(self) -> None:
        """Reads all of the input from now on, also if few results are fetched: the pool is joined."""
        if self.lazy:
            self.stop(RuntimeError("cannot schedule new futures after shutdown"))
            return
        self._set_free(threading.Thread(target=self._run, name="PoolFeeder", daemon=True).start)

    def forget(self) -> None:
        """Throws the results away, since the iterator was dropped; its tasks are run. Safe in a finalizer."""
        if self._pid != os.getpid() or sys.is_finalizing():
            return
        self.group.forget()
        if self.lazy:
            self.stop()
            return
        # not with `threading`, whose locks the interrupted thread may hold
        with suppress(RuntimeError):
            self._set_free(lambda: start_new_thread(self._run, ()))

    def stop(self, error: BaseException | None = None) -> None:
        """Reads no more. The consumer gets the error in the place of the rest. A reader that waits for its input ends
        when it has the next item.
        """
        if self.ended:
            return
        self.last = error
        self._end()
        self.wake()

    def abandon(self) -> None:
        """Gives up what was not submitted: the pool was ended."""
        self.stop(self._abandoned())

    def wake(self) -> None:
        """Makes the reader look at the window, if it sleeps."""
        if self._sleeps:
            self._sleeps = False
            with suppress(RuntimeError):  # another thread has opened it
                self._gate.release()

    def _set_free(self, start: Any) -> None:
        with self._lock:
            if self.ended or self.free:
                return
            self.free = True
            begin, self.inline = self.inline, False
        if begin:
            start()
        else:
            self.wake()

    # --- the reader's side ---

    def _read_ahead(self) -> None:
        room = self.ahead - (self.fed - self.given)
        while room >= self.chunk and not self.ended:
            before = self.fed
            self._submit(self.source, room - room % self.chunk)
            room -= self.fed - before
            if self.fed == before:
                break  # no room: the consumer waits for results or for room

    def _run(self) -> None:
        source = self.source
        try:
            while not self.ended:
                if self.free:
                    self.group.wait_for_few(_MOST_AHEAD)
                elif self.ahead - (self.fed - self.given) < self.chunk:
                    self._sleep()
                    if self._pool_has_ended():
                        self.abandon()
                    continue
                self._read_chunk(source)
        except BaseException as error:
            self.stop(error)

    def _read_chunk(self, source: Iterator[Any]) -> None:
        """Reads a chunk and submits it. The input is called from Python and not from Rust: if the interpreter exits
        while the input waits, it unwinds this thread, which must not go through Rust.
        """
        part: list[Any] = []
        error: BaseException | None = None
        over = False
        while len(part) < self.chunk and not over:
            try:
                part.append(next(source))
            except StopIteration:
                over = True
            except BaseException as raised:
                error, over = raised, True
                part.clear()  # as in multiprocessing, an incomplete chunk is not run
        count, items = len(part), iter(part)
        while count and not self.ended:
            if not self._engine.has_room():
                self._engine.wait_for_room()
            before = self.fed
            self._submit(items, count)
            count -= self.fed - before
        if over:
            self.stop(error)
        elif self.failures:
            self.group.tell()

    def _sleep(self) -> None:
        self._sleeps = True
        full = not self.free and not self.ended and self.ahead - (self.fed - self.given) < self.chunk
        if full and not self._pool_has_ended():
            self._gate.acquire()
        else:
            # No thread needs to wake this one; one that has done so already has opened the gate.
            self._sleeps = False
            self._gate.acquire(False)

    def _submit(self, source: Iterator[Any], items: int) -> None:
        try:
            read, tasks, ended, error = self.group.feed(source, items, self.chunk, self.fed)
        except Exception as refused:
            # if the pool has ended, what was not submitted is given up with the rest
            self.stop(self._abandoned() if self._pool_has_ended() else refused)
            return
        self.sent += tasks
        self.fed += read
        if error is not None:
            what, count = error
            if not count:  # the input itself has raised the error
                self.stop(what)
                return
            self.failures.append((self.fed, what, count))
            self.fed += count
        if ended and self.inline:
            self._end()

    def _pool_has_ended(self) -> bool:
        return self._engine.phase not in ("open", "closing")

    def _abandoned(self) -> BaseException:
        return error_of(("abandoned",), "", None, self._supervisor.broken)

    def _end(self) -> None:
        self.ended = True
        self.source = iter(())
        self.group.feeding(False)
