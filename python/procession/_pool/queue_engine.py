"""A pool on queues that a subclass has made, or with workers that a subclass starts: as multiprocessing's pool works.

Tasks go through one queue as (job, index, function, arguments, keywords), and come back through the other one as (job,
index, (success, value or exception)). Three threads serve it: one for the workers, one that puts tasks, one that gets
outcomes. The engine has the methods of the engine for threads.

The subclass decides what the workers do, so the pool does not know which task a worker has. Therefore there are no time
limits and no retries. If a worker that runs `pool.worker` dies, `_Inquest` finds out which task it had.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress

from .. import connection
from .._errors import OwnerDiedError
from .compat import worker as own_worker
from .compat_results import job_counter
from .errors import WorkerDiedError
from .thread_engine import ThreadEngine, ThreadGroup, ThreadTask, run_part
from .thread_supervisor import ThreadSupervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .options import OfPool
    from .thread_engine import _Work

    Key = tuple[int, int]

__all__ = ["QueueEngine", "QueueSupervisor", "made_for"]

# Workers that end badly while no task is done have a weight, and there is a limit for each place. Those that have
# raised an exception weigh more, since it most likely was the initializer's.
_MOST_FAILED, _RAISED = 24, 8
# Seconds for workers without a task to end by themselves, and for others after they got SIGTERM.
_TO_END, _TO_DIE = 1.0, 5.0


def made_for(pool: Any, asked: OfPool) -> tuple[QueueEngine, QueueSupervisor]:
    """Makes the engine and the supervisor of a pool that has its own queues or workers."""
    if refused := asked.given():
        raise ValueError(f"a pool with its own queues or workers has no {', '.join(refused)}")
    pool._setup_queues()
    engine = QueueEngine(pool)
    return engine, QueueSupervisor(pool, engine)


class QueueGroup(ThreadGroup):
    """Many calls of one function."""

    def _call(self, start: int, part: list[Any], many: bool) -> Any:
        if many:
            return run_part, (self._function, part, start, self._starred), {}
        return self._function, tuple(part[0]) if self._starred else (part[0],), {}


class QueueEngine(ThreadEngine):
    """Puts tasks into the one queue, and passes on the outcomes of the other."""

    _group_kind = QueueGroup
    kind = "a pool with its own queues or workers"
    has_signals = True
    reports = "queue"
    _no_limits = "a pool with its own queues or workers has no time limits and no retries"

    def __init__(self, pool: Any) -> None:
        super().__init__(pool._processes)
        self._put, self.get = pool._quick_put, pool._quick_get
        # tasks that are in the queue, or with a worker
        self.sent: dict[Key, _Work] = {}
        self.workers_now: list[Any] = pool._pool
        self.received = 0
        self.over = False
        self.wake: Callable[[], object] = lambda: None

    def _call_of(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return function, args, keywords

    def describer(self) -> Callable[..., Any]:
        from .per_item import in_process

        return in_process

    def ask(self) -> ThreadTask:
        """Submits a task that returns the pid of its worker. A closed pool does not wait for it."""
        task = ThreadTask(self, self._call_of(os.getpid, (), {}), False)
        self.queue.put(task._work)
        return task

    def feed(self) -> None:
        """Puts tasks until there are no more, and then tells the workers."""
        while not self.over:
            work = self.queue.get()
            if work is None:  # woken, for example by `finish`
                continue
            with self.condition:
                if work.state != "waiting":
                    continue
                work.state = "running"
                key = next(job_counter), 0
                self.sent[key] = work
            try:
                self.put_task((*key, *work.call))  # type: ignore[misc]
            except Exception as error:
                self.settle(key, (False, error))
            del work
        with suppress(OSError):  # the workers have gone, and the queue is closed
            for _ in list(self.workers_now):
                self.put_task(None)

    def finish(self) -> None:
        """Ends `feed`: there are no more tasks."""
        self.over = True
        self.queue.put(None)

    def put_task(self, task: Any) -> None:
        """Puts a task into the queue; None ends a worker."""
        while True:
            try:
                self._put(task)
            except OwnerDiedError:  # a worker was killed while it held the queue's lock, which is free now
                continue
            return

    def settle(self, key: Key, outcome: tuple[bool, Any]) -> None:
        """Stores the outcome of a task."""
        with self.condition:
            work = self.sent.pop(key, None)
            self.received += 1
            if work is not None:
                work.state = "done"
                self._unfinished.discard(work)
        if work is not None:
            success, value = outcome
            work.done(success, value if success else ("exception", value))
        if self.phase != "open" and not self.has_work():
            self.wake()

    def keep_open(self, on: bool) -> None:
        super().keep_open(on)
        if self.phase != "open":
            self.wake()

    def close(self) -> None:
        super().close()
        self.wake()

    def terminate(self, phase: str = "terminating") -> None:
        super().terminate(phase)
        self.wake()

    def resize(self, workers: int) -> None:
        raise ValueError("a pool with its own queues or workers cannot be resized")

    def statistics(self) -> list[Any]:
        """Returns nothing: the pool does not know what the workers do."""
        return []


class QueueSupervisor(ThreadSupervisor):
    """The threads. The one that looks after the workers lives longest."""

    def __init__(self, pool: Any, engine: QueueEngine) -> None:
        super().__init__(engine, pool._pool, None, ())
        self.queues: QueueEngine = engine
        self._of = weakref.ref(pool)
        self._inqueue, self._outqueue = pool._inqueue, pool._outqueue
        self._bell, self._ringer = connection.Pipe(duplex=False)
        self._ringing = threading.Lock()
        self._rung = False
        self._inquest: _Inquest | None = None
        self._inquire = _runs_own_worker(type(pool))
        self._received = 0
        engine.wake = self._ring

    def _ring(self) -> None:
        with self._ringing:
            if not self._rung and not self._ringer.closed:
                self._rung = True
                self._ringer.send_bytes(b"")

    def _listen(self, timeout: float | None) -> None:
        """Waits until a worker has ended, or the bell has rung."""
        sentinels = [process.sentinel for process in self.threads if hasattr(process, "sentinel")]
        if self._bell in connection.wait([self._bell, *sentinels], timeout):
            with self._ringing:
                self._bell.recv_bytes()
                self._rung = False

    def start(self) -> None:
        pool = self._of()
        assert pool is not None
        pool._repopulate_pool()
        self.thread = threading.Thread(target=self._look_after, name="PoolWorkerHandler", daemon=True)
        self.feeder = threading.Thread(target=self.queues.feed, name="PoolTaskHandler", daemon=True)
        self.receiver = threading.Thread(target=self._receive, name="PoolResultHandler", daemon=True)
        for thread in self.feeder, self.receiver, self.thread:  # the last one joins the others, perhaps at once
            thread.start()

    def terminated(self) -> None:
        if self.thread is not threading.current_thread():
            self.thread.join()

    # --- tasks and outcomes ---

    def _receive(self) -> None:
        while True:
            try:
                got = self.queues.get()
            except OwnerDiedError:
                continue
            except Exception as error:
                if self.queues.phase not in ("open", "closing"):
                    return
                # an outcome that cannot be read; it is unknown of which task
                self._break(error)
                continue
            if got is None:
                return
            job, index, outcome = got
            self.queues.settle((job, index), outcome)
            got = outcome = None

    def _break(self, why: BaseException | None) -> None:
        self.broken = why
        self.queues.terminate("broken")

    # --- workers ---

    def _look_after(self) -> None:
        engine = self.queues
        while engine.phase == "open" or (engine.phase == "closing" and engine.has_work()):
            self._listen(None if self._inquest is None else 0.05)
            if engine.phase not in ("open", "closing"):
                break
            ended = [process for process in self.threads if process.exitcode is not None]
            if ended:
                self._replace(ended)
            if self._inquest is not None and self._inquest.over():
                self._inquest = None
        self._end()

    def _replace(self, ended: list[Any]) -> None:
        engine = self.queues
        for process in ended:
            process.join()
            self.threads.remove(process)
        died = [process for process in ended if process.exitcode != 0]
        if engine.received != self._received:
            self.failed, self._received = 0, engine.received
        self.failed += sum(_RAISED if process.exitcode == 1 else 1 for process in died)
        if self.failed >= _MOST_FAILED * engine.workers:
            self._break(getattr(died[-1], "exception", None))
            return
        pool = self._of()
        if pool is None:  # the pool is ending
            return
        try:
            pool._repopulate_pool()
        except Exception as error:
            self._break(error)
        if died and self._inquire and engine.sent:
            self._inquest = _Inquest(engine, self.threads, died[-1])

    def _end(self) -> None:
        killing = self.queues.phase != "closing"
        self.queues.finish()
        if killing:
            self._stop()
        self.feeder.join()
        for process in self.threads:
            if not killing or hasattr(process, "terminate"):
                process.join()
        with suppress(OSError):
            self._put_last(None)
        self.receiver.join(
            _TO_DIE
        )  # a worker that was killed may have left a part of an outcome, and it waits for more
        with self._ringing:
            self._bell.close()
            self._ringer.close()

    def _put_last(self, what: None) -> None:
        try:
            self._outqueue.put(what)
        except OwnerDiedError:
            self._outqueue.put(what)

    def _stop(self) -> None:
        """Ends the workers. Those without a task end by themselves; the others get SIGTERM, and then SIGKILL."""
        alive = self._alive()
        limit = time.monotonic() + _TO_END
        while len(alive) > len(self.queues.sent) and time.monotonic() < limit:
            connection.wait([process.sentinel for process in alive], max(0.0, limit - time.monotonic()))
            alive = self._alive()
        for process in alive:
            process.terminate()
        limit = time.monotonic() + _TO_DIE
        for process in alive:
            process.join(max(0.0, limit - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        # the thread that puts tasks may wait for room in a queue that no worker reads any more
        reader = getattr(self._inqueue, "_reader", None)
        while self.feeder.is_alive():
            try:
                if reader is not None and reader.poll(0.01):
                    reader.recv_bytes()
            except (EOFError, OSError):
                break
            self.feeder.join(0.001)

    def _alive(self) -> list[Any]:
        """Returns the workers that can be terminated; threads cannot."""
        return [process for process in self.threads if hasattr(process, "terminate") and process.exitcode is None]


def _runs_own_worker(kind: Any) -> bool:
    from .. import pool
    from .compat import starts_own_workers

    return pool.worker is own_worker and not starts_own_workers(kind)


class _Inquest:
    """Finds out which tasks were lost with a dead worker.

    They are among the tasks that were sent and not done when the worker was found dead. The workers are sent calls of
    `os.getpid`. When the first one is done, all earlier tasks have been taken. When each worker of that moment has done
    one more call, or has ended, it is done with those tasks: each worker runs one task after the other. Tasks that have
    not come back then are lost.
    """

    def __init__(self, engine: QueueEngine, processes: list[Any], died: Any) -> None:
        self._engine = engine
        self._processes = processes
        self._died = died
        with engine.condition:
            self._doubtful = list(engine.sent)
        # pids of the workers that may have one of them; None while the first call is in progress
        self._silent: set[int] | None = None
        self._last = False
        self._asked = engine.ask()

    def over(self) -> bool:
        """Continues, without waiting. Returns whether all is settled."""
        engine = self._engine
        alive = {process.pid for process in self._processes if process.exitcode is None}
        if self._asked.ready():
            _, pid = self._asked.take() or (False, 0)
            self._silent = (alive if self._silent is None else self._silent) - {pid}
            if self._silent & alive:
                self._asked = engine.ask()
        with engine.condition:
            doubtful = [key for key in self._doubtful if key in engine.sent]
        if not doubtful or engine.phase not in ("open", "closing"):
            return True
        if self._silent is None or self._silent & alive:
            return False
        if not self._last:  # outcomes of workers that have ended meanwhile come before the outcome of one more call
            self._last, self._asked = True, engine.ask()
        if not self._asked.ready():
            return False
        died = self._died
        for key in doubtful:
            text = f"worker {died.pid} ended with exit code {died.exitcode}, and this task was lost"
            engine.settle(key, (False, WorkerDiedError(text, died.pid, died.exitcode)))
        return True
