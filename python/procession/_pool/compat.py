"""The part of `Pool` for code that knows multiprocessing's pool: names, and methods that a subclass overrides.

If a subclass overrides a method with which multiprocessing's pool makes its queues or starts its workers, the pool
works in that way (`queue_engine`). Other pools have no such queues.
"""

from __future__ import annotations

import itertools
import os
import time

from .. import util
from .._errors import OwnerDiedError
from .compat_results import Cache, MapResult, TaskQueue, found, reraise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSequence
    from typing import Any

    from .compat_results import Task
    from .engine import Engine, Supervisor

__all__ = ["PoolNames", "is_foreign", "worker"]


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """Runs a worker of a pool whose queues are those of a subclass: it takes tasks until None comes.

    A task is (job, index, function, arguments, keywords). It puts (job, index, (success, value or exception)). Workers
    of other pools run the loop of the engine instead.
    """
    from .._process.bootstrap import exit_code_of
    from .._start.exit_report import how
    from .compat_chunks import ExceptionWithTraceback
    from .errors import MaybeEncodingError, WorkerDiedError

    for end in (getattr(inqueue, "_writer", None), getattr(outqueue, "_reader", None)):
        if end is not None:
            end.close()
    if initializer is not None:
        initializer(*initargs)
    for _ in itertools.count() if maxtasks is None else range(maxtasks):
        try:
            task = _insisting(inqueue.get)
        except (EOFError, OSError):
            break
        if task is None:
            break
        job, index, function, args, keywords = task
        outcome: tuple[bool, Any]
        try:
            outcome = True, function(*args, **keywords)
        except Exception as error:
            failure: Any = error
            if wrap_exception and function is not reraise:
                failure = ExceptionWithTraceback(error, error.__traceback__)
            outcome = False, failure
        except SystemExit as stop:
            code = exit_code_of(stop)
            text = f"worker {os.getpid()} {how(code)} while it ran this task"
            _insisting(outqueue.put, (job, index, (False, WorkerDiedError(text, os.getpid(), code))))
            raise SystemExit(code) from None
        try:
            _insisting(outqueue.put, (job, index, outcome))
        except Exception as error:
            _insisting(outqueue.put, (job, index, (False, MaybeEncodingError(error, outcome[1]))))
        task = function = args = keywords = outcome = None  # type: ignore[assignment]
    util.debug("a worker has done its last task")


def _insisting(call: Callable[..., Any], *args: Any) -> Any:
    """Calls call(*args), again if the last owner of the lock has died."""
    while True:
        try:
            return call(*args)
        except OwnerDiedError:
            pass


class PoolNames:
    """The base class of `Pool`."""

    _state: str
    _ctx: Any
    _pool: list[Any]
    _processes: int
    _engine: Engine
    _supervisor: Supervisor
    _initializer: Any
    _initargs: Any
    _maxtasksperchild: int | None
    _wrap_exception: bool
    _inqueue: Any
    _outqueue: Any

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Makes the process of a worker. A subclass may override it."""
        return ctx.Process(*args, **kwds)

    @found
    def _cache(self: Any) -> Cache:
        """The calls in progress: `len` returns their number."""
        made = Cache(lambda engine=self._engine: engine.jobs)  # type: ignore[misc]
        found_: Cache = self.__dict__.setdefault("_cache", made)
        return found_

    @found
    def _taskqueue(self: Any) -> TaskQueue:
        """The queue for tasks of recipes. `qsize` returns how many batches and tasks no worker has begun."""
        made = TaskQueue(self._engine, self._supervisor, self._cache, self._processes)
        found_: TaskQueue = self.__dict__.setdefault("_taskqueue", made)
        return found_

    # One thread does the work of three in multiprocessing, unless the queues are those of a subclass.
    _worker_handler = found(lambda self: self._supervisor.thread)
    _task_handler = found(lambda self: getattr(self._supervisor, "feeder", self._supervisor.thread))
    _result_handler = found(lambda self: getattr(self._supervisor, "receiver", self._supervisor.thread))

    def _close_engine(self) -> None:
        """Closes the engine. Recipes that wait already are still run."""
        tasks = self.__dict__.get("_taskqueue")
        if isinstance(tasks, TaskQueue):
            tasks.close()
        else:
            self._engine.close()

    def _guarded_task_generation(
        self, result_job: int, func: Callable[..., Any], iterable: Iterable[Any]
    ) -> Iterator[Task]:
        """Yields a task for each item. If the input raises, the last task raises the same exception."""
        index = 0
        try:
            for item in iterable:
                yield result_job, index, func, (item,), {}
                index += 1
        except Exception as error:
            yield result_job, index, reraise, (error,), {}

    @staticmethod
    def _get_tasks(func: Callable[..., Any], it: Iterable[Any], size: int) -> Iterator[tuple[Any, tuple[Any, ...]]]:
        """Yields the input in chunks, as (func, chunk)."""
        items = iter(it)
        while chunk := tuple(itertools.islice(items, size)):
            yield func, chunk

    def _map_with(
        self,
        mapper: Callable[..., Any],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[Any]:
        """Runs a map whose chunks are computed by mapper((func, chunk)), which comes from a recipe."""
        items = list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (4 * self._processes))
        result: MapResult[Any] = MapResult(self, chunksize if items else 0, len(items), callback, error_callback)
        if items:
            chunks = self._get_tasks(func, items, chunksize)
            self._taskqueue.put((self._guarded_task_generation(result._job, mapper, chunks), None))
        return result

    # --- used if a subclass overrides a part of it ---

    def _setup_queues(self) -> None:
        """Makes the queues of tasks and outcomes. Called in subclasses that override it, or that start workers."""
        self._inqueue, self._outqueue = self._ctx.SimpleQueue(), self._ctx.SimpleQueue()
        self._quick_put, self._quick_get = self._inqueue.put, self._outqueue.get

    def _repopulate_pool(self) -> None:
        """Starts workers in place of those that have ended. In other pools, which do so by themselves, waits for it."""
        if is_foreign(type(self)):
            self._repopulate_pool_static(
                self._ctx,
                self.Process,
                self._processes,
                self._pool,
                self._inqueue,
                self._outqueue,
                self._initializer,
                self._initargs,
                self._maxtasksperchild,
                self._wrap_exception,
            )
            return
        limit = time.monotonic() + 5
        while time.monotonic() < limit and not all(row[0] for row in self._engine.statistics()):
            time.sleep(0.01)

    @staticmethod
    def _repopulate_pool_static(
        ctx: Any,
        Process: Callable[..., Any],
        processes: int,
        pool: MutableSequence[Any],
        inqueue: Any,
        outqueue: Any,
        initializer: Any,
        initargs: Any,
        maxtasksperchild: int | None,
        wrap_exception: bool,
    ) -> None:
        """Starts processes until the pool has `processes` of them, and adds them to it."""
        from .. import pool as module

        for _ in range(processes - len(pool)):
            process = Process(
                ctx,
                target=module.worker,
                args=(inqueue, outqueue, initializer, initargs, maxtasksperchild, wrap_exception),
            )
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process.start()
            pool.append(process)


def starts_own_workers(kind: Any) -> bool:
    """Returns whether that class of pools starts its workers itself."""
    return kind._repopulate_pool is not _REPOPULATE or kind._repopulate_pool_static is not _REPOPULATE_STATIC


def is_foreign(kind: Any) -> bool:
    """Returns whether a pool of that class has queues and workers as multiprocessing's pool has them.

    That is so if the class overrides how they are made, or if a program has replaced `pool.worker`.
    """
    from .. import pool as module

    return kind._setup_queues is not _SETUP or starts_own_workers(kind) or module.worker is not worker


_SETUP = PoolNames._setup_queues
_REPOPULATE, _REPOPULATE_STATIC = PoolNames._repopulate_pool, PoolNames._repopulate_pool_static
