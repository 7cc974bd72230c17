"""Pools: worker processes that run what they are given, and threads that do the same."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sized
from functools import partial
from weakref import WeakSet

from . import _core, process, util
from ._arguments import check_call, count, seconds, size
from ._pool.backlog import Backlog, Call, Chunks, report
from ._pool.call_options import bar_of, beyond
from ._pool.compat import PoolNames, is_foreign
from ._pool.compat import worker as worker
from ._pool.compat_chunks import ExceptionWithTraceback, mapstar, rebuild_exc, starmapstar
from ._pool.compat_results import ApplyResult, IMapIterator, IMapUnorderedIterator, MapResult
from ._pool.compat_results import job_counter as job_counter
from ._pool.errors import MaybeEncodingError as MaybeEncodingError
from ._pool.errors import error_of, name_of
from ._pool.imap_input import Feed, reads_at_once
from ._pool.iterators import ResultIterator, UnorderedResultIterator
from ._pool.results import OneResult, ResultList
from ._pool.supervisor import Supervisor
from ._process import cpu_count as _cpu_count
from ._process.stdlib_context import own_context
from ._start.exit_report import RemoteTraceback as RemoteTraceback
from .context import TimeoutError as TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Literal, Self

    from ._pool.engine import Engine, Group
    from ._pool.engine import Supervisor as SupervisorOf
    from ._pool.statistics import WorkerStatistics
    from .context import BaseContext

__all__ = ["Pool", "ThreadPool"]

# what a pool's `_state` is
INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


# Here is where multiprocessing has them, and so they are pickled by these names.
for _kind in (
    ApplyResult,
    ExceptionWithTraceback,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    MaybeEncodingError,
    RemoteTraceback,
    mapstar,
    rebuild_exc,
    starmapstar,
    worker,
):
    _kind.__module__ = __name__
AsyncResult = ApplyResult


class Pool(PoolNames):
    """Worker processes that run functions, and hand back what those return.

    A worker that dies, in whatever way, fails the task that it had (`WorkerDiedError`), or has it run again
    (`retries`); another worker takes its place, and nothing else is touched. No wait is for what cannot come.
    """

    _wrap_exception = True

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        timeout: float | None = None,
        retries: int = 0,
        worker_memory_limit: int | str | None = None,
        inner_threads: int | Literal["auto"] | None = None,
    ) -> None:
        """Starts the workers.

        processes: how many; by default as many as this process may use CPUs. initializer(*initargs) is called in each
        worker first; if it fails three times in a row, the pool is broken, with what it raised as the cause.
        maxtasksperchild: a worker ends after so many tasks, and another takes its place.

        Beyond multiprocessing: timeout: seconds that a task may take, unless its own call says otherwise. retries: how
        often a task is run again whose worker has died with it. worker_memory_limit: bytes of resident memory, also as
        "4GB" or "512MiB"; a worker that takes more dies (with its task: `WorkerDiedError`), or ends after it if it is a
        little more.
        inner_threads: how many threads numerical libraries may use in each worker; "auto": as many as there are CPUs
        for each.

        ValueError, TypeError: an argument is none of the above. What the start of a process raises is raised.
        """
        self._state = INIT
        self._pool: list[Any] = []
        if context is None:
            from .context import _default_context

            context = _default_context.get_context()
        context = own_context(context)
        self._ctx = context
        if processes is None:
            processes = _cpu_count.workers(context)
        if count("processes", processes, None) < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if inner_threads == "auto":
            inner_threads = max(1, context.cpu_count() // processes)
        elif isinstance(inner_threads, str):
            raise ValueError(f'inner_threads must be a positive integer, "auto" or None, not {inner_threads!r}')
        elif inner_threads is not None:
            inner_threads = count("inner_threads", inner_threads, 1)
        self._seldom = threading.RLock()
        self._processes = processes
        if worker_memory_limit is not None:
            worker_memory_limit = size("worker_memory_limit", worker_memory_limit)
        self._timeout = seconds("timeout", timeout)
        self._retries = count("retries", retries, 0)
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        # whether `apply` may do without `apply_async`
        self._direct = timeout is None and not retries and type(self).apply_async is _APPLY_ASYNC
        if is_foreign(type(self)):
            from ._pool.queue_engine import made_for

            self._engine, self._supervisor = made_for(self, worker_memory_limit, inner_threads)
        else:
            self._engine, self._supervisor = self._make_parts(processes, worker_memory_limit, inner_threads)
        self._backlog = Backlog(self._engine)
        self._waiting = self._backlog.waiting
        # the inputs of iterators that are read at the moment
        self._feeds: WeakSet[Feed] = WeakSet()
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

    def _make_parts(self, processes: int, memory: int | None, threads: int | None) -> tuple[Engine, SupervisorOf]:
        engine = _core.PoolEngine(processes, memory)
        return engine, Supervisor(
            engine,
            self._ctx,
            self._pool,
            self._initializer,
            self._initargs,
            self._maxtasksperchild,
            memory,
            threads,
            self.Process,
        )

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

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        """func(*args, **kwds), in a worker. Raises what it raises; see `AsyncResult.get` for the rest."""
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
            return value
        raise error_of(value, name_of(func), None, self._supervisor.broken)

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> OneResult:
        """As `apply`, but returns at once: a result to wait for, or to `await`.

        callback(value), error_callback(exception): called in a thread of the pool, before anybody who waits for the
        result goes on. timeout, retries: as for the pool, for this call.

        An argument that cannot be pickled is an error of the result. ValueError: the pool is closed.
        """
        if self._state != RUN:
            raise ValueError("Pool not running")
        if type(args) is not tuple or type(kwds) is not dict:
            args, kwds = check_call(args, kwds)
        timeout = self._timeout if timeout is None else seconds("timeout", timeout)
        retries = self._retries if retries is None else count("retries", retries, 0)
        result = OneResult(self, func)
        try:
            if callback is None and error_callback is None and not self._waiting:
                task = self._engine.submit(func, args, kwds, timeout, retries)
                if task is not None:
                    result._task = task
                    return result
            result._callback, result._error_callback = callback, error_callback
            result._told, result._waiting = threading.Event(), []
            call = Call(partial(self._submit, result, func, args, kwds, timeout, retries), result._not_sent)
            if self._waiting or not call.send():
                result._unsent = call
                self._backlog.add(call)
        except Exception as error:
            self._check_running()
            result._outcome = False, error
            if result._told is not None:
                report(result._call_back)
        return result

    def _submit(self, result: OneResult, func: Any, args: Any, kwds: Any, timeout: float | None, retries: int) -> bool:
        """Submits a call whose end the supervisor tells; False if there is no room."""
        supervisor = self._supervisor
        with supervisor.lock:
            task = self._engine.submit(func, args, kwds, timeout, retries, True)
            if task is None:
                return False
            result._task = task
            supervisor.watched[False, task.id] = result._tell
        return True

    # --- many calls ---

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> list[Any]:
        """[func(item) for item in iterable], in the workers; the list, in order.

        If calls raise, waits for all others and then raises what the first one of them (in the order of the input) has
        raised. chunksize: how many items a task has; by default many at first, and then ever fewer, so that no worker
        is idle at the end. func and what it is bound to (`functools.partial`) are sent once.

        timeout, retries: as for the pool; they are about tasks, and with a timeout a task has one item by default.
        progress: shows a bar, if tqdm is installed.
        """
        return self._map(func, iterable, mapstar, chunksize, beyond(timeout, retries, progress))

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> ResultList:
        """As `map`, but returns at once: a result to wait for.

        Callbacks as in `apply_async`; in the caller's thread, if all is done by the time that all of the input is sent.
        """
        more = beyond(timeout, retries, progress)
        made: ResultList = self._map_async(func, iterable, mapstar, chunksize, callback, error_callback, **more)
        return made

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> list[Any]:
        """[func(*item) for item in iterable]; otherwise as `map`."""
        return self._map(func, iterable, starmapstar, chunksize, beyond(timeout, retries, progress))

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> ResultList:
        """As `starmap`, but returns at once: a result to wait for. Callbacks as in `map_async`."""
        more = beyond(timeout, retries, progress)
        made: ResultList = self._map_async(func, iterable, starmapstar, chunksize, callback, error_callback, **more)
        return made

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[..., Any],
        chunksize: int | None,
        beyond: dict[str, Any],
    ) -> list[Any]:
        made = self._map_async(func, iterable, mapper, chunksize, **beyond)
        try:
            values: list[Any] = made.get()
        except BaseException:
            # Ctrl-C, or what another signal's handler has raised: the caller has no result by which to give them up
            if not made.ready():
                made.cancel()
            raise
        return values

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[..., Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> Any:
        """What the four above do; a subclass may override it. mapper: what does a chunk, as `mapstar` does."""
        self._check_running()
        if mapper is not mapstar and mapper is not starmapstar:
            return self._map_with(mapper, func, iterable, chunksize, callback, error_callback)
        items: Sequence[Any] = iterable if hasattr(iterable, "__len__") else list(iterable)  # type: ignore[assignment]
        length = len(items)
        timeout = self._timeout if timeout is None else seconds("timeout", timeout)
        retries = self._retries if retries is None else count("retries", retries, 0)
        if chunksize is not None:
            chunksize = count("chunksize", chunksize, 1)
        if chunksize is None and timeout is not None:
            chunksize = 1
        bar = bar_of(length) if progress else None
        chunked = chunksize is None or chunksize > 1
        result = ResultList(self, func, length, chunked, callback, error_callback, bar)
        result._chunk = chunksize
        if not length:
            return result
        result._group = self._engine.group(func, mapper is starmapstar, timeout, retries, False)
        if callback is not None or error_callback is not None or bar is not None:
            result._watch()
        chunks = Chunks(result, result._group, iter(items), length, chunksize, self)
        try:
            if self._waiting or not chunks.send():
                result._unsent = chunks
                result._group.feeding(True)
                self._backlog.add(chunks)
        except BaseException:
            result._group.cancel()
            raise
        return result

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> ResultIterator:
        """An iterator over func(item) for the items of iterable, in their order; also for `async for`.

        Returns at once. The input is read ahead of the results that were fetched: never more than buffersize items; by
        default some per worker, and up to 1024 chunks if they are done quickly. (multiprocessing reads all of it at
        once.) Results are handed out while the input waits, also for those results. After `close()` the input is read
        on; `join()` reads it to its end, whether results are fetched or not, and so does forgetting the iterator. The
        other arguments are as for `map`; `timeout` here is a task's, and `next(timeout)` the waiter's.

        ValueError: the pool is closed; chunksize or buffersize is below 1.
        """
        return self._imap(ResultIterator, func, iterable, chunksize, buffersize, timeout, retries, progress)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> UnorderedResultIterator:
        """As `imap`, in the order in which the results come."""
        made = self._imap(UnorderedResultIterator, func, iterable, chunksize, buffersize, timeout, retries, progress)
        assert isinstance(made, UnorderedResultIterator)
        return made

    def _imap(
        self,
        kind: type[ResultIterator],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        timeout: float | None,
        retries: int | None,
        progress: bool,
    ) -> ResultIterator:
        self._check_running()
        if count("chunksize", chunksize, None) < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None:
            buffersize = count("buffersize", buffersize, 1)
        timeout = self._timeout if timeout is None else seconds("timeout", timeout)
        retries = self._retries if retries is None else count("retries", retries, 0)
        source, inline = reads_at_once(iterable)
        length = len(iterable) if progress and isinstance(iterable, Sized) else None
        group = self._engine.group(func, False, timeout, retries, False)
        return self._iterator(
            kind, group, func, source, chunksize, buffersize, inline, bar_of(length) if progress else None
        )

    def _iterator(self, kind: type[ResultIterator], group: Group, func: Any, *how: Any) -> ResultIterator:
        source, chunksize, ahead, inline, bar = how
        feed = Feed(self, group, source, chunksize, ahead, inline)
        self._feeds.add(feed)
        return kind(self, feed, func, bar)

    # --- the pool itself ---

    def statistics(self) -> list[WorkerStatistics]:
        """How each worker is doing, at this moment and since it started. It disturbs nobody."""
        from ._pool.statistics import read

        return read(self._engine)

    def close(self) -> None:
        """The pool takes no more calls; when all are done, its workers end. Returns at once.

        Iterators that were made before go on reading their input.
        """
        util.debug("closing the pool")
        if self._state == RUN:
            self._state = CLOSE
            self._close_engine()

    def cancel_all(self) -> int:
        """Gives up all calls that are not done, and returns how many tasks those were.

        A call that waits is not made; a call that runs is ended by killing its worker, which is replaced. `get` raises
        `concurrent.futures.CancelledError`, and so do iterators, in the place of what is left of their input. The pool
        takes calls as before. In a `ThreadPool`, calls that run go on. multiprocessing has no such method.
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
        """The pool ends now. Calls that are not done are given up: who waits for one gets `PoolBrokenError`, and no
        callback is called. Idle workers end by themselves; a worker with a task is sent SIGTERM, and SIGKILL 0.3 s
        later.
        """
        util.debug("terminating the pool")
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Waits until all workers have ended. ValueError: neither `close()` nor `terminate()` was called."""
        util.debug("joining the pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        for feed in list(self._feeds):
            feed.lift()
        self._supervisor.thread.join()

    def __enter__(self) -> Self:
        if self._state != RUN:
            raise ValueError("Pool not running")
        return self

    def __exit__(self, *exc: object) -> None:
        self.terminate()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")


_APPLY_ASYNC = Pool.apply_async


class ThreadPool(Pool):
    """A pool of threads of this process, with the interface of `Pool`.

    Threads cannot be killed: `cancel()` succeeds only before a call has begun, time limits, retries and limits of
    memory are not to be had (ValueError), and a call that runs goes on after `terminate()`, which does not wait for it.
    """

    _wrap_exception = False

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Makes the thread that is to be a worker. A subclass may override it."""
        from .dummy import DummyProcess

        return DummyProcess(*args, **kwds)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        """Starts the threads. processes: how many; by default as many as this process may use CPUs."""
        super().__init__(processes, initializer, initargs)

    def _make_parts(self, processes: int, memory: int | None, threads: int | None) -> tuple[Engine, SupervisorOf]:
        from ._pool.thread_engine import ThreadEngine, ThreadSupervisor

        engine = ThreadEngine(processes)
        return engine, ThreadSupervisor(engine, self._pool, self._initializer, self._initargs, self.Process)


def _terminate(engine: Engine, supervisor: SupervisorOf, feeds: Any) -> None:
    """What ends a pool: also when it is forgotten, and when the program ends."""
    engine.terminate()
    if supervisor.pid == os.getpid():
        for feed in list(feeds):
            feed.abandon()
        supervisor.terminated()


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
