"""Pools of worker processes, and of threads, that run functions."""

from __future__ import annotations

import os
import threading
import warnings
from functools import partial
from weakref import WeakSet

from . import _core, process, util
from ._arguments import check_call, count, seconds
from ._pool.backlog import Backlog, Call, Chunks, report
from ._pool.compat import is_foreign
from ._pool.compat import worker as worker
from ._pool.compat_chunks import ExceptionWithTraceback, mapstar, rebuild_exc, starmapstar
from ._pool.compat_results import ApplyResult as ApplyResult
from ._pool.compat_results import IMapIterator as IMapIterator
from ._pool.compat_results import IMapUnorderedIterator as IMapUnorderedIterator
from ._pool.compat_results import MapResult as MapResult
from ._pool.compat_results import job_counter as job_counter
from ._pool.errors import MaybeEncodingError as MaybeEncodingError
from ._pool.errors import error_of, name_of
from ._pool.imap_calls import ImapCalls
from ._pool.life import CLOSE, RUN, TERMINATE, PoolLife
from ._pool.options import OfMap, OfPool, number_of_workers, repeated, repeats
from ._pool.results import OneResult, ResultList
from ._pool.supervisor import Supervisor
from ._pool.worker_reports import WorkerReports
from ._process.stdlib_context import own_context
from ._start.exit_report import RemoteTraceback as RemoteTraceback
from .context import TimeoutError as TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, TypeVar, Unpack

    from ._pool.engine import Engine
    from ._pool.engine import Supervisor as SupervisorOf
    from ._pool.option_types import MapOptions, PoolOptions, RetryOn  # pyright: ignore[reportMissingModuleSource]
    from ._pool.statistics import WorkerStatistics as WorkerStatistics
    from .context import BaseContext

    S = TypeVar("S")
    T = TypeVar("T")

__all__ = ["Pool", "ThreadPool"]

# a value of `_state` of a pool; the others are those of `PoolLife`
INIT = "INIT"

# multiprocessing has them in this module, so pickles name them by it
for _kind in (
    ExceptionWithTraceback,
    MaybeEncodingError,
    RemoteTraceback,
    mapstar,
    rebuild_exc,
    starmapstar,
    worker,
):
    _kind.__module__ = __name__
AsyncResult = ApplyResult


class Pool(ImapCalls, PoolLife, WorkerReports):
    """Worker processes that run functions and return their results.

    If a worker dies, in any way, its task fails with `WorkerDiedError` or is run again (`retries`). A new worker takes
    its place, and no other task is affected. No wait lasts for ever because of a dead process.

    Example:
        ```python
        import procession as mp

        def square(n):
            return n * n
        if __name__ == "__main__":
            with mp.Pool(2) as pool:
                print(pool.map(square, range(4)))  # [0, 1, 4, 9]
        ```
    """

    _wrap_exception = True

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        """Starts the workers.

        Args:
            processes: number of workers; by default the number of CPUs that this process may use.
            initializer: each worker first calls initializer(*initargs). If that fails three times in a row, the pool
                is broken, and the exception is the cause.
            initargs: arguments of `initializer`.
            maxtasksperchild: number of tasks after which a worker ends and a new one takes its place.
            context: a context of `get_context()`.
            options: additions to multiprocessing, see `PoolOptions`.

        Raises:
            ValueError, TypeError: an argument is wrong. Also everything that the start of a process raises.
        """
        self._state = INIT
        self._pool: list[Any] = []
        if context is None:
            from .context import _default_context

            context = _default_context.get_context()
        context = own_context(context)
        self._ctx = context
        given = processes
        processes = number_of_workers(context, processes, initializer, maxtasksperchild)
        asked = OfPool("Pool", options)  # type: ignore[arg-type]
        asked.divide_threads(context, processes)
        self._seldom = threading.RLock()
        self._processes = processes
        self._timeout, self._retries = asked.timeout, asked.retries
        self._soft_timeout = asked.soft_timeout
        self._retry_on, self._retry_delay = asked.retry_on, asked.retry_delay
        self._seeds = asked.seed
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        # whether `apply` need not go through `apply_async`
        self._direct = asked.goes_directly and type(self).apply_async is _APPLY_ASYNC
        try:
            if is_foreign(type(self)):
                from ._pool.queue_engine import made_for

                self._engine, self._supervisor = made_for(self, asked)
            elif (parts := getattr(type(context), "_pool_parts", None)) is not None:  # of a cluster
                self._engine, self._supervisor = parts(context, self, given, asked)
            else:
                self._engine, self._supervisor = self._make_parts(processes, asked)
        except OSError as error:
            _core.explain_limit(error, "making a pool", starts=True)
            raise
        if asked.name is not None and (label := getattr(self._engine, "_label", None)) is not None:
            label(asked.name)
        self._new_group = self._engine.group if asked.seed is None else asked.seed.grouped(self._engine)
        self._backlog = Backlog(self._engine)
        self._waiting = self._backlog.waiting
        self._feeds = WeakSet()
        self._terminate = util.Finalize(
            self, _terminate, args=(self._engine, self._supervisor, self._feeds), exitpriority=15
        )
        try:
            self._supervisor.start()
        except BaseException:
            self._engine.terminate()
            for process in self._pool:
                process.terminate()
                process.join()
            self._terminate.cancel()
            raise
        self._state = RUN

    def _make_parts(self, processes: int, asked: OfPool) -> tuple[Engine, SupervisorOf]:
        engine = _core.PoolEngine(processes, asked.worker_memory_limit)
        child = self._initializer, self._initargs, self._maxtasksperchild
        return engine, Supervisor(engine, self._ctx, self._pool, *child, asked, self.Process)

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if getattr(self, "_state", None) == RUN and self._supervisor.pid == os.getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
            self._engine.terminate()

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._engine.phase == "broken":
            broken = error_of(("abandoned",), "", None, self._supervisor.broken)
            raise broken from broken.__cause__

    # --- one call ---

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> T:
        """Runs func(*args, **kwds) in a worker. Returns its result or raises its exception; see `AsyncResult.get`."""
        if self._state != RUN:
            raise ValueError("Pool not running")
        if self._waiting or not self._direct:
            return self.apply_async(func, args, kwds).get()
        if type(args) is not tuple or type(kwds) is not dict:
            args, kwds = check_call(args, kwds)
        try:
            success, value = self._engine.call(func, args, kwds)
        except ValueError:
            self._check_running()
            raise
        if success:
            result: T = value
            return result
        raise error_of(value, name_of(func), None, self._supervisor.broken)

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn = None,
        retry_delay: float | None = None,
        priority: int = 0,
    ) -> AsyncResult[T]:
        """Runs func(*args, **kwds) in a worker. Returns a result to wait for or to `await`, at once.

        An argument that cannot be pickled makes the result fail.

        Args:
            callback: callback(value) is called in a thread of the pool, before a wait for the result returns.
            error_callback: called likewise with the exception.
            timeout: seconds; None: that of the pool.
            soft_timeout: likewise; see `PoolOptions`.
            retries: None: that of the pool.
            retry_on: None: that of the pool; see `PoolOptions`.
            retry_delay: likewise.
            priority: workers take waiting calls with a higher priority first; see `MapOptions`.

        Raises:
            ValueError: the pool is closed.
        """
        if self._state != RUN:
            raise ValueError("Pool not running")
        if type(args) is not tuple or type(kwds) is not dict:
            args, kwds = check_call(args, kwds)
        timeout = self._timeout if timeout is None else seconds("timeout", timeout)
        retries = self._retries if retries is None else count("retries", retries, 0)
        result: OneResult[T] = OneResult(self, func)
        if soft_timeout is not None or self._soft_timeout is not None:
            from ._pool.soft_limit import checked, limited

            soft = checked(self._soft_timeout if soft_timeout is None else soft_timeout, timeout)
            func = limited(self._engine, func, soft)
        if retry_on is not None or retry_delay is not None or self._retry_on is not None:
            again = repeats(retries, retry_on, retry_delay, self._retry_on, self._retry_delay)
            func, retries = repeated(self._engine, func, retries, *again)
        if self._seeds is not None:
            func = self._seeds.of_call(func)
        if priority:
            from ._pool.priority import checked as checked_priority

            priority = checked_priority(self._engine, priority)
        try:
            if callback is None and error_callback is None and not self._waiting and not priority:
                task = self._engine.submit(func, args, kwds, timeout, retries)
                if task is not None:
                    result._task = task
                    return result
            result._callback, result._error_callback = callback, error_callback
            result._told, result._waiting = threading.Event(), []
            call = Call(partial(self._submit, result, func, args, kwds, timeout, retries, priority), result._not_sent)
            call.priority = priority
            if self._waiting or not call.send():
                result._unsent = call
                self._backlog.add(call)
        except Exception as error:
            self._check_running()
            result._outcome = False, error
            if result._told is not None:
                report(result._call_back)
        return result

    def _submit(
        self,
        result: OneResult[Any],
        func: Any,
        args: Any,
        kwds: Any,
        timeout: float | None,
        retries: int,
        priority: int,
    ) -> bool:
        """Submits a call about whose end the supervisor is told; False if there is no room."""
        supervisor = self._supervisor
        with supervisor.lock:
            task = self._engine.submit(func, args, kwds, timeout, retries, True, priority)
            if task is None:
                return False
            result._task = task
            supervisor.watched[False, task.id] = result._tell
        return True

    # --- many calls; the methods that call this one are in `MapCalls` ---

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[..., Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[MapOptions],
    ) -> MapResult[Any]:
        """Does the work of `map`, `starmap` and their variants; a subclass may override it.

        mapper: runs a chunk, as `mapstar`.
        """
        self._check_running()
        asked = OfMap(self, "map", options)  # type: ignore[arg-type]
        if mapper is not mapstar and mapper is not starmapstar:
            return self._map_with(mapper, func, iterable, chunksize, callback, error_callback)
        items: Sequence[Any] = iterable if hasattr(iterable, "__len__") else list(iterable)  # type: ignore[assignment]
        length = len(items)
        chunksize = asked.chunk(chunksize)
        starred = mapper is starmapstar
        kind, call = ResultList, func
        bar = asked.bar(length)
        if asked.rare:
            kind, call = asked.prepared(kind, func, starred, chunksize, bar, self._engine)
        chunked = chunksize is None or chunksize > 1
        result: ResultList[Any] = kind(self, func, length, chunked, callback, error_callback, bar)
        result._chunk = chunksize
        result._join = getattr(items, "_procession_join", None)
        if not length:
            return result
        result._group = self._new_group(call, starred, asked.timeout, asked.retries, False, asked.priority)
        if callback is not None or error_callback is not None or bar is not None or kind._watches:
            result._watch()
        chunks = Chunks(result, result._group, result._reading(items), length, chunksize, self)
        chunks.priority = asked.priority
        try:
            if self._waiting or not chunks.send():
                result._unsent = chunks
                result._group.feeding(True)
                self._backlog.add(chunks)
        except BaseException:
            result._group.cancel()
            raise
        return result

    # --- the pool itself ---

    def close(self) -> None:
        """Takes no more calls; the workers end when all calls are done. Returns at once. Iterators go on."""
        util.debug("closing the pool")
        if self._state == RUN:
            self._state = CLOSE
            self._close_engine()

    def cancel_all(self) -> int:
        """Gives up all calls that are not done, and returns how many tasks those were.

        A call that waits is not run. A call that runs is ended: its worker is killed and replaced. `get` raises
        `concurrent.futures.CancelledError`, and so do iterators in the place of the rest of their input. The pool
        still takes calls. In a `ThreadPool`, calls that run go on. multiprocessing has no such method.
        """
        return self._give_up(True)

    def _give_up(self, kill: bool) -> int:
        from concurrent.futures import CancelledError

        jobs = self._backlog.withdraw_all()
        for feed in list(self._feeds):
            feed.stop(CancelledError())
        for job in jobs:
            report(partial(job.fail, CancelledError()))
        cancelled: int = self._engine.cancel_all(kill)
        return len(jobs) + cancelled

    def terminate(self) -> None:
        """Ends the pool now. A wait for a call that is not done raises `PoolBrokenError`; no callback is called.

        Idle workers end by themselves. A worker with a task gets SIGTERM, and SIGKILL 0.3 s later.
        """
        util.debug("terminating the pool")
        self._state = TERMINATE
        self._terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


_APPLY_ASYNC = Pool.apply_async


class ThreadPool(Pool):
    """A pool of threads of this process, with the interface of `Pool`.

    Threads cannot be killed. So `cancel()` succeeds only before a call has begun; time limits, retries and limits of
    memory raise ValueError; and `terminate()` neither ends a call that runs nor waits for it.
    """

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Makes the thread of a worker. A subclass may override it."""
        from .dummy import DummyProcess

        return DummyProcess(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Starts the threads. processes: their number; by default the number of CPUs that this process may use."""
        super().__init__(processes, initializer, initargs)

    def _make_parts(self, processes: int, asked: OfPool) -> tuple[Engine, SupervisorOf]:
        from ._pool.thread_engine import ThreadEngine
        from ._pool.thread_supervisor import ThreadSupervisor

        engine = ThreadEngine(processes)
        return engine, ThreadSupervisor(engine, self._pool, self._initializer, self._initargs, self.Process)


def _terminate(engine: Engine, supervisor: SupervisorOf, feeds: Any) -> None:
    """Ends a pool: on `terminate()`, when its object is deleted, and when the program ends."""
    engine.terminate()
    if supervisor.pid == os.getpid():
        for feed in list(feeds):
            feed.abandon()
        supervisor.terminated()


if not TYPE_CHECKING:
    _lend = process.lending(__name__)

    def __getattr__(name: str) -> object:
        if name == "WorkerStatistics":  # its module is imported when it is needed
            from ._pool.statistics import WorkerStatistics

            return WorkerStatistics
        return _lend(name)
