"""Calls of a pool that wait without being pickled, because enough bytes are on their way to the workers.

So a big object that is an argument of many waiting calls is in memory once. As in multiprocessing, changes to an
argument after the call was made and before it is sent are sent too.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .engine import Engine, Group

__all__ = ["Backlog", "Call", "Chunks", "report"]


class Backlog:
    """The calls that wait to be sent, in the order in which they came, those of a higher priority first. A thread sends
    them; it ends when none waits.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.waiting: deque[Call | Chunks] = deque()
        self._lock = threading.Lock()
        # held while a job is sent, so that a job is either withdrawn or sent; re-entrant, since pickling may call back
        self._sending = threading.RLock()
        self._runs = False

    def add(self, job: Call | Chunks) -> None:
        """Sends the job after all that wait, except those of a lower priority."""
        with self._lock:
            place = len(self.waiting)
            while place > 1 and self.waiting[place - 1].priority < job.priority:  # the first one may be sent just now
                place -= 1
            self.waiting.insert(place, job)
            begin, self._runs = not self._runs, True
        if begin:
            self._engine.keep_open(True)
            threading.Thread(target=self._run, name="PoolSender", daemon=True).start()

    def withdraw(self, job: Call | Chunks) -> bool:
        """Takes a job back. Returns False if all of it is sent."""
        with self._sending, self._lock:
            try:
                self.waiting.remove(job)
            except ValueError:
                return False
        return True

    def withdraw_all(self) -> list[Call | Chunks]:
        """Takes all jobs back and returns them."""
        with self._sending, self._lock:
            jobs = list(self.waiting)
            self.waiting.clear()
        return jobs

    def _next(self) -> Call | Chunks | None:
        with self._lock:
            if self.waiting:
                return self.waiting[0]
            self._runs = False
        self._engine.keep_open(False)
        return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._engine.wait_for_room()
            with self._sending:
                if not self.waiting or self.waiting[0] is not job:
                    continue
                done, refused = True, None
                try:
                    done = job.send()
                except BaseException as error:
                    refused = error
                if done:
                    with self._lock:
                        self.waiting.popleft()
            if refused is not None:
                why = refused if self._engine.phase in ("open", "closing") else None
                report(partial(job.fail, why))


def report(tell: Callable[[], object]) -> None:
    """Calls a function that calls back. An exception of the callback is printed and affects no other call."""
    try:
        tell()
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


class Call:
    """One call. submit: submits it, and returns False if there is no room; fail: called if it will not be submitted."""

    def __init__(self, submit: Callable[[], bool], fail: Callable[[BaseException | None], None]) -> None:
        self.send = submit
        self.fail = fail

    priority = 0


class Chunks:
    """The input of a map, sent in chunks into a group of tasks.

    size: number of items per chunk. None: a share of the rest, so that the last chunks are small, unless a chunk has
    many bytes: an object to which all items refer is pickled once for each chunk, so then the chunks are few.
    """

    def __init__(
        self, result: Any, group: Group, source: Iterator[Any], length: int, size: int | None, pool: Any
    ) -> None:
        self._result = result
        self._group = group
        self._source = source
        self._length = length
        self._size = size
        self._workers: int = pool._processes
        self._engine = pool._engine
        self._done = 0
        self.priority = 0

    def send(self) -> bool:
        """Submits as much as there is room for; whether that was all of it.

        What cannot be sent is a failure of the result, and so is what the input raises.
        """
        while self._done < self._length:
            left = self._length - self._done
            if self._size is None and self._group.big:
                self._size = -(-left // max(1, 4 * self._workers - 1))
            chunk = self._size or max(1, left // (8 * self._workers))
            items = left if self._size else min(left, chunk * self._workers)
            # the value of a single item comes back as itself, not as a list
            read, tasks, ended, error = self._group.feed(self._source, items, chunk, self._done, self._result._chunked)
            self._result._tasks += tasks
            self._done += read
            if error is not None:
                self._result._fail(self._done, error[0], error[1] > 0)
                self._done += error[1]
                ended = ended or not error[1]
            if ended:
                break
            if read < items and error is None and not self._engine.has_room():
                return False
        self._finish()
        return True

    def left(self) -> int:
        """Returns about how many tasks are not submitted yet."""
        left = self._length - self._done
        return -(-left // (self._size or max(1, left // (8 * self._workers))))

    def fail(self, error: BaseException | None, /) -> None:
        """Gives up the rest, which will not be sent."""
        if error is None:
            self._result._abandon(self._done)
        else:
            self._result._fail(self._done, error, False)
        self._finish()

    def _finish(self) -> None:
        self._source = iter(())
        self._result._submitted()
        self._group.feeding(False)
