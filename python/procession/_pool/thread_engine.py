"""An engine that runs tasks in threads, with the methods of the engine in Rust for processes.

Nothing is pickled. A thread runs its task to the end, also if it was cancelled or the pool was terminated.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections import deque
from functools import partial
from queue import SimpleQueue

from .errors import note_item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ClassVar

__all__ = ["ThreadEngine"]


def _wait(condition: threading.Condition, until: Callable[[], bool], timeout: float | None) -> bool:
    with condition:
        return condition.wait_for(until, timeout)


def read_part(iterator: Iterator[Any], count: int) -> tuple[list[Any], bool, tuple[BaseException, int] | None]:
    """Reads at most `count` items. Returns them, whether the input has ended, and what it has raised, with 0."""
    part: list[Any] = []
    for _ in range(count):
        try:
            part.append(next(iterator))
        except StopIteration:
            return part, True, None
        except BaseException as raised:
            return [], False, (raised, 0)  # as in multiprocessing, an incomplete chunk is not run
    return part, False, None


def run_part(function: Callable[..., Any], items: list[Any], first: int, starred: bool) -> list[Any]:
    """Runs several calls that are one task. first: the index of the first item."""
    values: list[Any] = []
    try:
        if starred:
            for item in items:
                values.append(function(*item))
        else:
            for item in items:
                values.append(function(item))
    except Exception as error:
        note_item(error, first + len(values), items[len(values)])
        raise
    return values


class _Work:
    """A call, or several of them, while they wait for a thread or run."""

    __slots__ = ("call", "done", "job", "state")

    def __init__(self, call: Callable[[], Any], done: Callable[[bool, Any], None], job: int) -> None:
        self.call = call
        self.done = done
        self.job = job  # the number of the task or of the group
        self.state = "waiting"


# in the queue of an engine: an idle thread shall look whether the pool has become smaller
_LOOK = _Work(lambda: None, lambda success, value: None, 0)


class ThreadTask:
    """One call."""

    def __init__(self, engine: ThreadEngine, call: Callable[[], Any], report: bool) -> None:
        self.id = next(engine.numbers)
        self._engine = engine
        self._outcome: tuple[bool, Any] | None = None
        self._report = report
        self._work = _Work(call, self._done, self.id)
        self._ended = False

    def _done(self, success: bool, value: Any) -> None:
        with self._engine.condition:
            if self._ended:
                return
            self._ended = True
            self._outcome = success, value
            self._engine.condition.notify_all()
            report = self._report
        if report:
            self._engine.tell((False, self.id))

    def wait(self, timeout: float | None = None) -> bool:
        return self._ended or _wait(self._engine.condition, lambda: self._ended, timeout)

    def ready(self) -> bool:
        return self._ended

    def take(self) -> tuple[bool, Any] | None:
        with self._engine.condition:
            outcome, self._outcome = self._outcome, None
        return outcome

    def outcome(self, timeout: float | None = None) -> tuple[bool, Any] | None:
        return self.take() if self.wait(timeout) else None

    def cancel(self, kill: bool = True) -> bool:
        if not self._engine.withdraw(self._work):
            return False
        self._done(False, ("cancelled",))
        return True

    def running(self) -> bool:
        return self._work.state == "running"

    def report(self) -> bool:
        with self._engine.condition:
            self._report = True
            return not self._ended


class ThreadGroup:
    """Many calls of one function."""

    def __init__(self, engine: ThreadEngine, function: Callable[..., Any], starred: bool, report: bool) -> None:
        self.id = next(engine.numbers)
        self._engine = engine
        self._function = function
        self._starred = starred
        self._report = report
        self._pending: dict[int, _Work] = {}
        self._finished: deque[tuple[int, bool, Any]] = deque()
        self._feeding = self._news = self._forgotten = False

    def _call(self, start: int, part: list[Any], many: bool) -> Callable[[], Any]:
        """Makes the function that a task calls."""
        function, starred = self._function, self._starred

        def call() -> Any:
            values = run_part(function, part, start, starred)
            return values if many else values[0]

        return call

    def feed(
        self,
        iterator: Iterator[Any],
        items: int,
        chunk: int = 1,
        first: int = 0,
        listed: bool = False,
    ) -> tuple[int, int, bool, tuple[BaseException, int] | None]:
        read = tasks = 0
        ended = False
        error = None
        many = listed or chunk > 1
        while read < items and not ended and error is None:
            start = first + read
            part, ended, error = read_part(iterator, min(chunk, items - read))
            if part:
                read += len(part)
                tasks += 1
                self._submit(start, part, many)
        return read, tasks, ended, error

    def _submit(self, start: int, part: list[Any], many: bool) -> None:
        def done(success: bool, value: Any) -> None:
            with self._engine.condition:
                if self._pending.pop(start, None) is None:
                    return
                if not self._forgotten:
                    self._finished.append((start, success, value))
                self._engine.condition.notify_all()
                report = self._report
            if report:
                self._engine.tell((True, self.id))

        work = _Work(self._call(start, part, many), done, self.id)
        with self._engine.condition:
            self._pending[start] = work
        self._engine.put(work)

    def _some(self) -> bool:
        return bool(self._finished) or self._news or not (self._pending or self._feeding)

    def collect(self, most: int, timeout: float | None = None) -> tuple[int, list[tuple[int, bool, Any]]] | None:
        with self._engine.condition:
            if not self._some() and not self._engine.condition.wait_for(self._some, timeout):
                return None
            self._news = False
            found = [self._finished.popleft() for _ in range(min(most, len(self._finished)))]
            return len(self._pending) + len(self._finished), found

    def collect_into(
        self, into: deque[tuple[int, bool, Any]], timeout: float | None = None, since: float | None = None
    ) -> bool:
        with self._engine.condition:
            if not self._some() and not self._engine.condition.wait_for(self._some, timeout):
                return False
            self._news = False
            while self._finished:
                into.append(self._finished[0])
                self._finished.popleft()
        return True

    def gather(
        self, results: list[Any], chunked: bool, timeout: float | None = None, since: float | None = None
    ) -> tuple[int, list[tuple[int, Any]], int] | None:
        collected = self.collect(sys.maxsize, timeout)
        if collected is None:
            return None
        failures, stored = [], 0
        for number, success, value in collected[1]:
            if not success:
                failures.append((number, value))
            elif chunked:
                results[number : number + len(value)] = value
                stored += len(value)
            else:
                results[number] = value
                stored += 1
        return collected[0], failures, stored

    def wait(self, timeout: float | None = None) -> bool:
        return _wait(self._engine.condition, lambda: not self._pending, timeout)

    def progress(self) -> tuple[int, int]:
        with self._engine.condition:
            return len(self._pending), len(self._finished)

    def cancel(self, kill: bool = True) -> int:
        count = 0
        for work in list(self._pending.values()):
            if self._engine.withdraw(work):
                work.done(False, ("cancelled",))
                count += 1
        return count

    def report(self) -> None:
        with self._engine.condition:
            self._report = True
            news = self._news or bool(self._finished)
        if news:
            self._engine.tell((True, self.id))

    def feeding(self, on: bool) -> None:
        with self._engine.condition:
            changes, self._feeding = self._feeding != on, on
        if changes:
            self._engine.keep_open(on)
            if not on:
                self.tell()

    def tell(self) -> None:
        with self._engine.condition:
            self._news = True
            self._engine.condition.notify_all()
            report = self._report
        if report:
            self._engine.tell((True, self.id))

    def forget(self) -> None:
        with self._engine.condition:
            self._forgotten = True
            self._finished.clear()

    def wait_for_few(self, most: int, timeout: float | None = None) -> bool:
        return _wait(self._engine.condition, lambda: len(self._pending) <= most, timeout)

    # nothing is pickled, so nothing is big
    big = False


class ThreadEngine:
    """The queue from which threads take their work."""

    _group_kind: ClassVar[type[ThreadGroup]] = ThreadGroup
    reports: str | None = "here"  # where tasks put reports of their progress
    kind = "a pool of threads"
    has_signals = False
    has_priorities = False
    workers_die = False  # so there is no task to run again because of that
    _no_limits = "a pool of threads has no time limits and no retries: threads cannot be killed"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.condition = threading.Condition()
        self.numbers = itertools.count(1)
        self.phase = "open"
        self.queue: SimpleQueue[_Work | None] = SimpleQueue()
        # the slots that have a thread; from `workers` on, the threads end before they take more work
        self.occupied: set[int] = set()
        self.on_missing: Callable[[int], object] = lambda slot: None
        self.on_left: Callable[[int], object] = lambda slot: None
        self.busy: dict[int, tuple[float, bool]] = {}
        self.done = [0] * workers
        self.tell: Callable[[tuple[bool, int]], object] = lambda key: None
        self._unfinished: set[_Work] = set()
        # number of inputs that may have more work, also after the pool was closed
        self._open = 0

    def describer(self) -> Callable[..., Any]:
        """Returns the function that describes the exception of an item in a worker; see `per_item`."""
        from .per_item import in_thread

        return in_thread

    def has_room(self) -> bool:
        return True

    def wait_for_room(self, timeout: float | None = None) -> bool:
        return True

    def keep_open(self, on: bool) -> None:
        with self.condition:
            self._open += 1 if on else -1
            self._end_if_done()

    def has_work(self) -> bool:
        """Returns whether there is work that a closed pool does before it ends."""
        return bool(self._unfinished or self._open)

    def _end_if_done(self) -> None:
        """Ends the threads of a closed pool when all work is done. The caller holds the condition."""
        if self.phase == "closing" and not self._open:
            for _ in range(max(self.workers, len(self.occupied))):
                self.queue.put(None)

    def resize(self, workers: int) -> None:
        """Sets the number of threads. Starts missing ones; others end before they take more work."""
        with self.condition:
            self.workers = workers
            self.done.extend([0] * (workers - len(self.done)))
            missing = [slot for slot in range(workers) if slot not in self.occupied]
            leaving = sum(slot >= workers for slot in self.occupied)
        for slot in missing:
            self.on_missing(slot)
        for _ in range(leaving):
            self.queue.put(_LOOK)

    def _leaves(self, slot: int) -> bool:
        with self.condition:
            if slot < self.workers:
                return False
            self.occupied.discard(slot)
            self.busy.pop(slot, None)
            self.on_left(slot)
        return True

    def _pass_on(self) -> None:
        """Lets another thread look, if one that shall end is idle."""
        with self.condition:
            again = any(slot >= self.workers and not self.is_busy(slot) for slot in self.occupied)
        if again:
            self.queue.put(_LOOK)
            time.sleep(0.001)

    def cancel_all(self, kill: bool = False) -> int:
        with self.condition:
            waiting = list(self._unfinished)
        count = 0
        for work in waiting:
            if self.withdraw(work):
                work.done(False, ("cancelled",))
                count += 1
        return count

    def submit(
        self,
        function: Callable[..., Any],
        args: Iterable[Any] = (),
        keywords: Any = None,
        timeout: float | None = None,
        retries: int = 0,
        report: bool = False,
        priority: int = 0,
    ) -> ThreadTask:
        self._refuse(timeout, retries)
        task = ThreadTask(self, self._call_of(function, tuple(args), dict(keywords or {})), report)
        self.put(task._work)
        return task

    def _call_of(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Returns a call in the form in which workers get it."""
        return partial(function, *args, **keywords)

    def call(self, function: Callable[..., Any], args: Iterable[Any], keywords: Any = None) -> tuple[bool, Any]:
        task = self.submit(function, args, keywords)
        task.wait()
        outcome = task.take()
        assert outcome is not None
        return outcome

    def group(
        self,
        function: Callable[..., Any],
        starred: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        report: bool = False,
        priority: int = 0,
    ) -> ThreadGroup:
        self._refuse(timeout, retries)
        return self._group_kind(self, function, starred, report)

    def _refuse(self, timeout: float | None, retries: int) -> None:
        if timeout is not None or retries:
            raise ValueError(self._no_limits)

    def put(self, work: _Work) -> None:
        with self.condition:
            if self.phase == "open" or (self.phase == "closing" and self._open):
                self._unfinished.add(work)
                self.queue.put(work)
                return
        work.done(False, ("abandoned",))

    def withdraw(self, work: _Work) -> bool:
        """Takes work back that has not begun. Returns whether it did; then the work never runs."""
        with self.condition:
            if work.state != "waiting":
                return False
            work.state = "withdrawn"
            self._unfinished.discard(work)
            return True

    def run(self, slot: int) -> None:
        """Runs tasks, in a worker thread, until there are no more, or the pool has become smaller."""
        self.busy[slot] = time.monotonic(), False
        while slot < self.workers or not self._leaves(slot):
            work = self.queue.get()
            if work is None:
                return
            if work is _LOOK:
                if slot < self.workers:
                    self._pass_on()
                continue
            with self.condition:
                if work.state != "waiting":
                    continue
                work.state = "running"
            self.busy[slot] = time.monotonic(), True
            success: bool
            value: Any
            try:
                success, value = True, work.call()
            except BaseException as error:
                success, value = False, ("exception", error)
            with self.condition:
                work.state = "done"
                self._unfinished.discard(work)
            work.done(success, value)
            self.done[slot] += 1
            self.busy[slot] = time.monotonic(), False
            del work, value

    def close(self) -> None:
        with self.condition:
            if self.phase == "open":
                self.phase = "closing"
                self._end_if_done()

    def terminate(self, phase: str = "terminating") -> None:
        with self.condition:
            if self.phase not in ("open", "closing"):
                return
            self.phase = phase
            left, self._unfinished = self._unfinished, set()
            for work in left:
                if work.state == "waiting":
                    work.state = "withdrawn"
            for _ in range(max(self.workers, len(self.occupied))):
                self.queue.put(None)
        for work in left:
            work.done(False, ("abandoned",))

    def kill_workers(self, signal: int) -> None:
        """Does nothing: threads cannot be killed, and `terminate` ends workers with queues of their own."""

    def wait_by(self, call: Callable[..., Any], args: tuple[Any, ...], *about: object) -> Any:
        """Returns call(*args). Observers see no waits for threads of this process."""
        return call(*args)

    @property
    def pending(self) -> int:
        return len(self._unfinished)

    @property
    def waiting(self) -> int:
        """Number of tasks that no thread has begun."""
        with self.condition:
            return sum(work.state == "waiting" for work in self._unfinished)

    @property
    def jobs(self) -> int:
        """Number of calls and groups of calls in progress."""
        with self.condition:
            return len({work.job for work in self._unfinished})

    def is_busy(self, slot: int) -> bool:
        """Returns whether that thread is running a task."""
        return self.busy.get(slot, (0.0, False))[1]

    def statistics(self) -> list[tuple[int, bool, int, int, int, int, float, int, int]]:
        now = time.monotonic()
        rows = []
        with self.condition:
            slots = sorted({*range(self.workers), *self.occupied})
        for slot in slots:
            since, busy = self.busy.get(slot, (now, False))
            ready = slot in self.busy
            rows.append((os.getpid(), ready, int(busy), 0, 0, 0, now - since, self.done[slot], 0))
        return rows
