"""`concurrent.futures` on a pool that survives its workers: a crash fails the future of that call, and no other."""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    InvalidStateError,
    TimeoutError,
    as_completed,
    wait,
)
from concurrent.futures import Future as _Future

from . import context, pool, util
from ._arguments import count, seconds, size
from ._pool.backlog import Call
from ._pool.errors import PoolBrokenError, TaskTimeoutError, error_of, name_of
from ._pool.errors import WorkerDiedError as _WorkerDiedError
from ._pool.iterators import ResultIterator
from ._process import cpu_count as _cpu_count
from ._process.stdlib_context import own_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal

    from ._pool.backlog import Backlog
    from ._pool.engine import Engine, Supervisor, Task
    from ._pool.statistics import WorkerStatistics
    from .context import BaseContext
    from .process import BaseProcess

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "BrokenExecutor",
    "BrokenProcessPool",
    "CancelledError",
    "Executor",
    "Future",
    "InvalidStateError",
    "ProcessPoolExecutor",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerDiedError",
    "as_completed",
    "wait",
]


class BrokenProcessPool(BrokenExecutor, PoolBrokenError):
    """The executor cannot run anything: its initializer fails, or it was ended by force.

    A worker that dies does not lead to this: its call alone fails, with `WorkerDiedError`.
    """


class WorkerDiedError(_WorkerDiedError, BrokenExecutor):
    """The worker died that had the call: as `procession.WorkerDiedError`, which it derives from.

    Unlike other errors of broken executors it is of one call; the executor goes on.
    """


class Future(_Future):  # type: ignore[type-arg]  # generic from 3.9 on, and in typeshed
    """A `concurrent.futures.Future` that knows whether a worker has its call."""

    _task: Task | None = None
    # what waits in the pool's backlog, if the call was not sent at once
    _job: Call | None = None
    _backlog: Backlog | None = None

    def _withdraw(self) -> None:
        """The call is not sent, if it was not sent yet."""
        if self._job is not None and self._backlog is not None and self._backlog.withdraw(self._job):
            self._job = None

    def cancel(self) -> bool:
        """Cancels the call, unless it is running or done; whether it is cancelled."""
        self._withdraw()
        task = self._task
        if task is None or self.cancelled():
            return super().cancel()
        return task.cancel(False) and super().cancel()

    def kill(self) -> bool:
        """As `cancel`, and a call that is running is given up: its worker is killed and replaced.

        The result is then `CancelledError` too. concurrent.futures has no such method.
        """
        self._withdraw()
        task = self._task
        return super().cancel() if task is None else task.cancel(True) and super().cancel()

    def running(self) -> bool:
        """Whether a worker has the call."""
        task = self._task
        return super().running() or (task is not None and not self.done() and task.running())


class ProcessPoolExecutor(Executor):
    """Runs calls in processes."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        worker_memory_limit: int | str | None = None,
        inner_threads: int | Literal["auto"] | None = None,
    ) -> None:
        """Workers start with the first call.

        max_workers: how many; by default as many as this process may use CPUs. mp_context: how they are started.
        initializer(*initargs): called in each of them first; if it fails three times in a row, all calls fail with
        `BrokenProcessPool`. max_tasks_per_child: a worker ends after so many calls, and another takes its place (under
        every start method). The others are as for `procession.Pool`.
        """
        if max_workers is not None and count("max_workers", max_workers, None) <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is not None and not hasattr(mp_context, "Process"):
            raise TypeError(f"mp_context must be a context, as of get_context(), not {mp_context!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._mp_context = own_context(context._default_context.get_context() if mp_context is None else mp_context)
        self._max_workers = _cpu_count.workers(self._mp_context) if max_workers is None else max_workers
        self._arguments = (initializer, initargs, max_tasks_per_child, self._mp_context)
        self._options: dict[str, Any] = {
            "timeout": seconds("timeout", timeout),
            "retries": count("retries", retries, 0),
            "worker_memory_limit": None
            if worker_memory_limit is None
            else size("worker_memory_limit", worker_memory_limit),
            "inner_threads": inner_threads,
        }
        self._lock = threading.Lock()
        self._pool: pool.Pool | None = None
        self._shut_down = False

    def _started(self) -> pool.Pool:
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if util.is_exiting():
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._pool is None:
                self._pool = pool.Pool(self._max_workers, *self._arguments, **self._options)
                # what is under way when the program ends is done before, as with concurrent.futures
                util.Finalize(self, _finish, args=(self._pool._engine, self._pool._supervisor), exitpriority=20)
            if self._pool._engine.phase != "open":
                raise self._broken(self._pool)
            return self._pool

    @staticmethod
    def _broken(of: pool.Pool) -> BrokenProcessPool:
        why = error_of(("abandoned",), "", None, of._supervisor.broken)
        broken = BrokenProcessPool(*why.args)
        broken.__cause__ = why.__cause__
        return broken

    @property
    def _processes(self) -> dict[int | None, BaseProcess]:
        """The workers by pid, as code in the wild looks for them."""
        return {} if self._pool is None else {process.pid: process for process in self._pool._pool}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """A future of fn(*args, **kwargs).

        What cannot be pickled fails the future. RuntimeError: the executor was shut down. BrokenProcessPool.
        """
        running = self._started()
        future = Future()
        supervisor, engine = running._supervisor, running._engine
        name = name_of(fn)

        def send() -> bool:
            with supervisor.lock:
                task = engine.submit(fn, args, kwargs, running._timeout, running._retries, True)
                if task is None:
                    return False
                future._task, future._job = task, None
                supervisor.watched[False, task.id] = lambda: _settle(future, name, supervisor)
            return True

        def fail(error: BaseException | None) -> None:
            future._job = None
            if isinstance(error, CancelledError):
                future.cancel()
            if future.set_running_or_notify_cancel():
                future.set_exception(self._broken(running) if error is None else error)

        try:
            if running._waiting or not send():
                future._job, future._backlog = Call(send, fail), running._backlog
                running._backlog.add(future._job)
        except Exception as error:
            if engine.phase != "open":
                raise self._broken(running) from error
            future._task = None
            future.set_exception(error)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results of fn, called with an item of each iterable, in order.

        timeout: seconds from now after which it raises TimeoutError. chunksize: how many calls go to a worker at once.
        buffersize: how many calls the input is read ahead of what was returned; None: all of it, at once. When a call
        raises, so does the iterator, which ends then; calls that no worker has begun are cancelled.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        limit = None if timeout is None else time.monotonic() + timeout
        running = self._started()
        group = running._engine.group(fn, True, running._timeout, running._retries, False)
        ahead = sys.maxsize if buffersize is None else buffersize
        source = zip(*iterables, strict=False)
        # without a buffersize all of the input is read now; with one, the input is read in the thread that fetches
        results = running._iterator(ResultIterator, group, fn, source, chunksize, ahead, True, None)
        if buffersize is None:
            results._feed.lift()
        else:
            results._feed.lazy = True
        return _results(self, running, results, limit)

    def statistics(self) -> list[WorkerStatistics]:
        """How each worker is doing; see `Pool.statistics`. Empty before the first call."""
        return [] if self._pool is None else self._pool.statistics()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls are taken; workers end when all are done. wait: until they have ended.

        cancel_futures: calls that no worker has begun are cancelled.
        """
        with self._lock:
            self._shut_down = True
            running = self._pool
        if running is None:
            return
        if cancel_futures:
            running._give_up(False)
        running.close()
        if wait and running._supervisor.thread is not threading.current_thread():
            running.join()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """As `shutdown()`. If it was Ctrl-C that ended the block, what is under way is given up."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate_workers()
        self.shutdown(wait=True)

    def terminate_workers(self) -> None:
        """Ends the workers (SIGTERM) and shuts down; calls that are under way fail."""
        self._end(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Ends the workers (SIGKILL) and shuts down; calls that are under way fail."""
        self._end(signal.SIGKILL)

    def _end(self, how: int) -> None:
        with self._lock:
            self._shut_down = True
            running = self._pool
        if running is not None:
            running._engine.terminate()
            if how == signal.SIGKILL:
                running._engine.kill_workers(how)
            running._state = pool.TERMINATE

    def __del__(self) -> None:
        running = getattr(self, "_pool", None)
        if running is not None:
            running.close()


def _finish(engine: Engine, supervisor: Supervisor) -> None:
    engine.close()
    thread = supervisor.thread
    if thread is not None and thread is not threading.current_thread():
        thread.join()


def _results(
    executor: ProcessPoolExecutor, running: pool.Pool, results: ResultIterator, limit: float | None
) -> Iterator[Any]:
    try:
        while True:
            left = None if limit is None else max(0.0, limit - time.monotonic())
            try:
                success, value = results._take(left)
            except StopIteration:
                return
            except context.TimeoutError:
                raise TimeoutError from None
            if not success:
                raise _converted(value)
            yield value
            del value
    finally:
        results._feed.stop()
        results._group.cancel(False)


def _converted(error: BaseException) -> BaseException:
    if type(error) is _WorkerDiedError:
        return WorkerDiedError(*error.__reduce__()[1])
    if type(error) is not PoolBrokenError:
        return error
    broken = BrokenProcessPool(*error.args)
    broken.__cause__ = error.__cause__
    return broken


def _settle(future: Future, name: str, supervisor: Supervisor) -> None:
    """In the supervisor's thread: the future learns what has come of its call."""
    task, future._task = future._task, None
    told = None if task is None else task.take()
    if told is None:
        return
    success, value = told
    error = None if success else error_of(value, name, None, supervisor.broken)
    if isinstance(error, CancelledError):
        future.cancel()
        future.set_running_or_notify_cancel()
    elif future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(_converted(error))
