"""An engine that runs tasks in worker processes, in plain Python.

It is the engine for threads, each of which carries its tasks to a process of its own (`carrier`). So the queue of
tasks, the groups and the outcomes are the same, and what concerns a process is here: time limits, retries, priorities,
and calls that are ended while they run.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import time

from .._pool.thread_engine import _LOOK, ThreadEngine, ThreadGroup, ThreadTask, _Work
from . import reductions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .carrier import Carrier

__all__ = ["Job", "ProcessEngine"]

_MOST_WORKERS = 16_384  # as on Linux
_MOST_FAILED_STARTS = 3  # initializers that raise, in a row
_MOST_KILLED_STARTS = 24  # workers that die before they are ready, in a row


class Job:
    """What a worker is to do, and how often and for how long. It stands in the place of the call of a thread."""

    __slots__ = ("_message", "deaths", "priority", "retries", "task", "timeout")

    def __init__(self, task: tuple[Any, ...], timeout: float | None, retries: int, priority: int) -> None:
        """task: as `worker` takes it."""
        self.task: tuple[Any, ...] | None = task
        self.timeout = None if timeout == float("inf") else timeout
        self.retries = retries
        self.priority = priority
        self.deaths = 0  # number of workers that have died with it
        self._message = b""

    def message(self) -> bytes:
        """Pickles the task, once, and returns the message for a worker. Raises what pickling raises, with a note."""
        if not self._message:
            try:
                self._message = (b"T" if self.timeout is None else b"L") + reductions.dumps(self.task)
            except Exception as error:
                from .._serialize.explain import explain_pickling

                explain_pickling(error, self.task)
                raise
            self.task = None
        return self._message


class _Line:
    """Tasks that wait, those of a higher priority first."""

    def __init__(self) -> None:
        self._queue: queue.PriorityQueue[tuple[float, int, _Work | None]] = queue.PriorityQueue()
        self._numbers = itertools.count()

    def put(self, work: _Work | None) -> None:
        """Puts a task, or what stands for the end, which comes after all tasks."""
        job = None if work is None or work is _LOOK else work.call
        rank = float("inf") if job is None else -job.priority  # type: ignore[attr-defined]
        self._queue.put((rank, next(self._numbers), work))

    def get(self) -> _Work | None:
        return self._queue.get()[2]


class ProcessTask(ThreadTask):
    """One call."""

    _engine: ProcessEngine

    def cancel(self, kill: bool = True) -> bool:
        return super().cancel(kill) or (kill and self._engine.end(self._work))


class ProcessGroup(ThreadGroup):
    """Many calls of one function."""

    _engine: ProcessEngine
    timeout: float | None = None
    retries = 0
    priority = 0

    def _call(self, start: int, part: list[Any], many: bool) -> Any:
        task = "items", self._function, part, self._starred, many
        return Job(task, self.timeout, self.retries, self.priority)

    def cancel(self, kill: bool = True) -> int:
        cancelled = super().cancel(kill)
        if kill:
            cancelled += sum(self._engine.end(work) for work in list(self._pending.values()))
        return cancelled


class ProcessEngine(ThreadEngine):
    """The queue from which carriers take the tasks for their workers."""

    _group_kind = ProcessGroup
    kind = "a pool without the extension"
    has_signals = hasattr(signal, "setitimer")
    has_priorities = True
    workers_die = True

    def __init__(self, workers: int) -> None:
        _check(workers)
        super().__init__(workers)
        self.queue = _Line()  # type: ignore[assignment]
        self.carriers: dict[int, Carrier] = {}
        self.restarts: dict[int, int] = {}
        # the error that broke the pool, and how many workers have failed in a row before they were ready
        self.broken: BaseException | None = None
        self._failed = self._killed = 0
        self._pid = os.getpid()

    def describer(self) -> Callable[..., Any]:
        from .._pool.per_item import in_process

        return in_process

    # --- tasks ---

    def put(self, work: _Work) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("a pool is of no use in a forked child: it belongs to the process that made it")
        super().put(work)

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
        job: Any = Job(("call", function, tuple(args), dict(keywords or {})), timeout, retries, priority)
        task = ProcessTask(self, job, report)
        self.put(task._work)
        return task

    def group(
        self,
        function: Callable[..., Any],
        starred: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        report: bool = False,
        priority: int = 0,
    ) -> ThreadGroup:
        group = ProcessGroup(self, function, starred, report)
        group.timeout, group.retries, group.priority = timeout, retries, priority
        return group

    def end(self, work: _Work) -> bool:
        """Ends a task that is running: its worker is killed. Returns whether it was running."""
        with self.condition:
            if work.state != "running":
                return False
            work.state = "cancelled"
            self._unfinished.discard(work)
            for carrier in self.carriers.values():
                if carrier.work is work:
                    carrier.kill()
        work.done(False, ("cancelled",))
        return True

    def cancel_all(self, kill: bool = False) -> int:
        cancelled = super().cancel_all(kill)
        if kill:
            with self.condition:
                running = [work for work in self._unfinished if work.state == "running"]
            cancelled += sum(self.end(work) for work in running)
        return cancelled

    def run(self, slot: int) -> None:
        """Carries tasks to the worker of a place, in a thread, until there are no more or the pool has become
        smaller."""
        carrier = self.carriers[slot]
        self.busy[slot] = time.monotonic(), False
        carrier.get_ready()
        while slot < self.workers or not self._leaves(slot):
            work = self.queue.get()
            if work is None:
                break
            if work is _LOOK:
                if slot < self.workers:
                    self._pass_on()
                continue
            with self.condition:
                if work.state != "waiting":
                    continue
                work.state = "running"
                carrier.work = work
            self.busy[slot] = time.monotonic(), True
            outcome = carrier.carry(work)
            with self.condition:
                carrier.work = None
                ended = work.state == "running"
                if ended:
                    work.state = "waiting" if outcome is None else "done"
                    if outcome is not None:
                        self._unfinished.discard(work)
            if ended:
                if outcome is None:
                    self.queue.put(work)
                else:
                    work.done(*outcome)
            self.done[slot] += 1
            self.busy[slot] = time.monotonic(), False
            carrier.rest()
            del work, outcome
        carrier.finish(self.phase in ("open", "closing"))

    # --- workers ---

    def resize(self, workers: int) -> None:
        _check(workers)
        super().resize(workers)

    def worker_is_ready(self) -> None:
        """Called when a worker has run its initializer."""
        self._failed = self._killed = 0

    def worker_has_failed(self, error: BaseException, killed: bool) -> None:
        """Called when a worker has ended before it was ready. Breaks the pool if that has happened too often."""
        with self.condition:
            self._failed += not killed
            self._killed += killed
            broken = self._failed >= _MOST_FAILED_STARTS or self._killed >= _MOST_KILLED_STARTS
        if broken:
            self.breaks(error)

    def breaks(self, error: BaseException) -> None:
        """Ends the pool, because no worker can be started."""
        with self.condition:
            if self.phase in ("open", "closing"):
                self.broken = error
        self.terminate("broken")

    def terminate(self, phase: str = "terminating") -> None:
        super().terminate(phase)
        for carrier in list(self.carriers.values()):
            carrier.ask_to_end()

    def kill_workers(self, signal: int) -> None:
        for carrier in list(self.carriers.values()):
            carrier.kill()

    def statistics(self) -> list[tuple[int, bool, int, int, int, int, float, int, int]]:
        rows = []
        for slot, row in zip(sorted({*range(self.workers), *self.occupied}), super().statistics(), strict=False):
            carrier = self.carriers.get(slot)
            pid = 0 if carrier is None else carrier.pid
            ready = carrier is not None and carrier.is_ready
            rows.append((pid, ready, *row[2:8], self.restarts.get(slot, 0)))
        return rows


def _check(workers: int) -> None:
    if workers > _MOST_WORKERS:
        raise ValueError(f"a pool has at most {_MOST_WORKERS} workers, not {workers}")
