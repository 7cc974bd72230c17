"""`concurrent.futures` on a pool that survives its workers: if a worker dies, only the future of its call fails."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sized
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
from concurrent.futures import Future as _StdFuture

from . import _core, context, pool, util
from ._arguments import count
from ._pool.backlog import Call
from ._pool.errors import NodeDiedError as _NodeDiedError
from ._pool.errors import PoolBrokenError, TaskTimeoutError, error_of, name_of
from ._pool.errors import WorkerDiedError as _WorkerDiedError
from ._pool.iterators import ResultIterator
from ._pool.life import TERMINATE
from ._pool.options import OfMap, OfPool, repeated
from ._process import cpu_count as _cpu_count
from ._process.stdlib_context import own_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

    from ._pool.backlog import Backlog
    from ._pool.engine import Engine, Supervisor, Task
    from ._pool.option_types import (  # pyright: ignore[reportMissingModuleSource]
        CallOptions,
        PoolOptions,
        RaisingCallOptions,
        RetryOptions,
    )
    from ._pool.statistics import WorkerStatistics
    from .context import BaseContext
    from .process import BaseProcess

    _Future = _StdFuture
    P = ParamSpec("P")
    T = TypeVar("T")
else:
    # type arguments are for type checkers alone: the base is that without them
    T, _Future = None, {None: _StdFuture}

_SIGKILL: int = getattr(signal, "SIGKILL", 9)  # Windows has no such signal

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
    "NodeDiedError",
    "ProcessPoolExecutor",
    "TaskTimeoutError",
    "TimeoutError",
    "WorkerDiedError",
    "as_completed",
    "wait",
]


class BrokenProcessPool(BrokenExecutor, PoolBrokenError):
    """Raised if the executor cannot run anything: its initializer fails, or it was ended by force.

    A worker that dies does not break the executor: only its call fails, with `WorkerDiedError`.
    """


class WorkerDiedError(_WorkerDiedError, BrokenExecutor):
    """Raised if the worker that ran the call has died. It derives from `procession.WorkerDiedError`.

    Unlike other errors of broken executors it concerns one call; the executor goes on.
    """


class NodeDiedError(_NodeDiedError, WorkerDiedError):
    """Raised if the node of a cluster that ran the call has died. It derives from `procession.NodeDiedError`."""


class Future(_Future[T]):
    """A `concurrent.futures.Future` that knows whether a worker is running its call."""

    _task: Task | None = None
    # the entry in the backlog of the pool, if the call could not be sent at once
    _job: Call | None = None
    _backlog: Backlog | None = None
    _engine: Engine | None = None

    def result(self, timeout: float | None = None) -> T:
        """Waits for the call, at most `timeout` seconds. Returns its result or raises its exception."""
        value: T = self._wait_in(super().result, timeout)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the call, at most `timeout` seconds. Returns its exception, or None if it has returned."""
        raised: BaseException | None = self._wait_in(super().exception, timeout)
        return raised

    def _wait_in(self, wait: Callable[[float | None], Any], timeout: float | None) -> Any:
        """Returns wait(timeout). Observers see what this thread waits for."""
        task, engine = self._task, self._engine
        if task is None or engine is None:  # done, or not sent yet
            return wait(timeout)
        return engine.wait_by(wait, (timeout,), timeout, task.id)

    def _withdraw(self) -> None:
        """Removes the call from the backlog, if it was not sent yet."""
        if self._job is not None and self._backlog is not None and self._backlog.withdraw(self._job):
            self._job = None

    def cancel(self) -> bool:
        """Cancels the call, unless it is running or done. Returns whether it is cancelled."""
        self._withdraw()
        task = self._task
        if task is None or self.cancelled():
            return super().cancel()
        return task.cancel(False) and super().cancel()

    def kill(self) -> bool:
        """As `cancel`, but also gives up a call that is running: its worker is killed and replaced.

        The result is then `CancelledError` too. Returns whether the call is cancelled. concurrent.futures has no such
        method.
        """
        self._withdraw()
        task = self._task
        return super().cancel() if task is None else task.cancel(True) and super().cancel()

    if TYPE_CHECKING:

        def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None: ...

    def running(self) -> bool:
        """Returns whether a worker is running the call."""
        task = self._task
        return super().running() or (task is not None and not self.done() and task.running())


class ProcessPoolExecutor(Executor):
    """Runs calls in worker processes.

    If a worker dies, its call fails with `WorkerDiedError` or is run again (`retries`); a new worker takes its place.

    Example:
        ```python
        from procession.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as executor:
                print(executor.submit(pow, 2, 10).result())  # 1024
        ```
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        """Makes an executor. Workers start with the first call.

        Args:
            max_workers: number of workers; by default the number of CPUs that this process may use.
            mp_context: the context that starts the workers.
            initializer: each worker first calls initializer(*initargs). If that fails three times in a row, all calls
                fail with `BrokenProcessPool`.
            initargs: arguments of `initializer`.
            max_tasks_per_child: number of calls after which a worker ends and a new one takes its place, under every
                start method.
            options: additions to concurrent.futures, see `PoolOptions`.
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
        # of a cluster without a given number: one worker for each core of each node, also of those that join later
        self._given = max_workers if hasattr(type(self._mp_context), "_pool_parts") else self._max_workers
        self._arguments = (initializer, initargs, max_tasks_per_child, self._mp_context)
        asked = OfPool("ProcessPoolExecutor", options)  # type: ignore[arg-type]
        options.pop("name", None)
        self._options = options
        # the pool is made later, and elsewhere
        self._label = asked.name or "", _core._place()
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
                self._pool = pool.Pool(self._given, *self._arguments, **self._options)
                if isinstance(self._pool._engine, _core.PoolEngine):
                    self._pool._engine._label(*self._label)
                # when the program ends, it waits for running calls, as with concurrent.futures
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
        """The workers by pid, for programs that use this attribute of concurrent.futures."""
        return {} if self._pool is None else {process.pid: process for process in self._pool._pool}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Runs fn(*args, **kwargs) in a worker. Returns its future.

        An argument that cannot be pickled makes the future fail.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenProcessPool: the executor is broken.
        """
        running = self._started()
        future: Future[T] = Future()
        supervisor, engine = running._supervisor, running._engine
        future._engine = engine
        name = name_of(fn)
        call: Callable[..., T] = fn
        again = running._retries
        if running._soft_timeout is not None:
            from ._pool.soft_limit import limited

            call = limited(engine, fn, running._soft_timeout)
        if running._retry_on is not None:
            call, again = repeated(engine, call, again, running._retry_on, running._retry_delay)
        if running._seeds is not None:
            call = running._seeds.of_call(call)

        def send() -> bool:
            with supervisor.lock:
                task = engine.submit(call, args, kwargs, running._timeout, again, True)
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

    if TYPE_CHECKING:

        @overload
        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
            on_error: Literal["return"],
            **options: Unpack[RetryOptions],
        ) -> Iterator[T | Exception]: ...
        @overload
        def map(
            self,
            fn: Callable[..., T],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int = 1,
            buffersize: int | None = None,
            **options: Unpack[RaisingCallOptions],
        ) -> Iterator[T]: ...

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Iterator[Any]:
        """Calls fn with an item of each iterable, in the workers. Returns an iterator over the results, in order.

        If a call raises, the iterator raises and ends; calls that have not begun are cancelled. `on_error` changes
        that: "stop" does not wait for the turn of the failed call, and ends the calls that run; see `CallOptions`.

        Args:
            timeout: seconds from now, after which the iterator raises TimeoutError; None: without limit.
            chunksize: number of calls that are sent to a worker at once.
            buffersize: how many calls the input is read ahead of the results that were fetched; None: all of it, at
                once.
            options: additions to concurrent.futures, see `CallOptions`.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        limit = None if timeout is None else time.monotonic() + timeout
        running = self._started()
        asked = OfMap(running, "map", options)  # type: ignore[arg-type]
        length = None
        if asked.progress and all(isinstance(iterable, Sized) for iterable in iterables):
            length = min(map(len, iterables), default=0)  # type: ignore[arg-type]
        ahead = sys.maxsize if buffersize is None else buffersize
        source = zip(*iterables, strict=False)
        # without a buffersize read all of the input now; with one read it in the thread that fetches results
        how = source, chunksize, ahead, True, asked.bar(length)
        results = running._iterator(ResultIterator, asked, fn, True, *how)
        results.converted = _converted
        if buffersize is None:
            results._feed.lift()
        else:
            results._feed.lazy = True
        return _results(self, running, results, limit)

    def statistics(self) -> list[WorkerStatistics]:
        """Returns what each worker does now; see `Pool.statistics`. Empty before the first call."""
        return [] if self._pool is None else self._pool.statistics()

    def exit_results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Returns the results of `exit_function`, all of them after `shutdown()`; see `Pool.exit_results`."""
        if self._pool is None:
            if self._options.get("exit_function") is None:
                raise ValueError("the executor was made without exit_function")
            return []
        return self._pool.exit_results(return_exceptions=return_exceptions)

    def resize(self, max_workers: int) -> None:
        """Sets the number of workers, while the executor runs; see `Pool.resize`.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenProcessPool: the executor is broken.
        """
        max_workers = count("max_workers", max_workers, 1)
        with self._lock:
            unused = self._pool is None and not self._shut_down
            if unused and not hasattr(type(self._mp_context), "_pool_parts"):
                self._max_workers = self._given = max_workers
                return
        running = self._started()
        running.resize(max_workers)
        self._max_workers = max_workers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; the workers end when all calls are done.

        Args:
            wait: returns only when the workers have ended.
            cancel_futures: cancels the calls that have not begun.
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
        """As `shutdown()`. If Ctrl-C ended the block, running calls are given up."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.terminate_workers()
        self.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """As `__exit__`; the event loop goes on meanwhile. If the task is cancelled, running calls are given up.

        concurrent.futures has no `async with`.
        """
        from asyncio import CancelledError

        from ._pool.ending import in_a_thread

        if kind is not None and issubclass(kind, CancelledError):
            self.terminate_workers()
        await in_a_thread(self.__exit__, kind, *exc, cut=self.terminate_workers)

    def terminate_workers(self) -> None:
        """Ends the workers (SIGTERM) and shuts down; calls that are not done fail."""
        self._end(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Ends the workers (SIGKILL) and shuts down; calls that are not done fail."""
        self._end(_SIGKILL)

    def _end(self, how: int) -> None:
        with self._lock:
            self._shut_down = True
            running = self._pool
        if running is not None:
            running._engine.terminate()
            if how == _SIGKILL:
                running._engine.kill_workers(how)
            running._state = TERMINATE

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
    executor: ProcessPoolExecutor, running: pool.Pool, results: ResultIterator[T], limit: float | None
) -> Iterator[T]:
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
    if type(error) in (_WorkerDiedError, _NodeDiedError):
        kind: Any = WorkerDiedError if type(error) is _WorkerDiedError else NodeDiedError
        made: BaseException = kind(*error.__reduce__()[1])
        made.__dict__.update(error.__dict__)  # the index of the item
        return made
    if type(error) is not PoolBrokenError:
        return error
    broken = BrokenProcessPool(*error.args)
    broken.__cause__ = error.__cause__
    return broken


def _settle(future: Future[Any], name: str, supervisor: Supervisor) -> None:
    """Gives the result of its call to a future, in the thread of the supervisor."""
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
