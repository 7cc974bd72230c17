"""The class of joblib's backend "procession"."""

from __future__ import annotations

import os
import sys

from joblib.parallel import (  # type: ignore[import-untyped,unused-ignore]
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from .. import cpu_count
from .._arguments import seconds
from .._serialize.without_main import ByValue, reducers
from .._start.without_main import BareSpawnContext
from .kept_executors import Kept, lend, take_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..futures import Future

__all__ = ["ProcessionBackend"]

IDLE_TIMEOUT = 300  # seconds, as in joblib's own backend
# what `Parallel` gives to each backend
_OF_JOBLIB = ("context", "prefer", "require", "temp_folder", "verbose")


class ProcessionBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # they have no types
    """Runs batches of tasks in an executor of this package; see `procession.joblib.register`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    supports_sharedmem = False
    uses_threads = False

    _kept: Kept | None = None
    _known: dict[int, Any]

    def effective_n_jobs(self, n_jobs: int | None) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns the number of workers for joblib's `n_jobs`: -1 means all CPUs that this process may use."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)

    def configure(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        **options: Any,
    ) -> int:
        """Prepares workers for a call of `Parallel`. Returns their number."""
        workers = self.effective_n_jobs(n_jobs)
        if workers == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {**self.backend_kwargs, **options}
        for name in _OF_JOBLIB:
            options.pop(name, None)
        if "timeout" in options:
            raise ValueError(
                "the backend has no option 'timeout'; Parallel(timeout=...) limits the wait for a task, and "
                "'idle_worker_timeout' says when idle workers end"
            )
        for name in ("seed", "exit_function"):
            if options.get(name) is not None:
                raise ValueError(
                    f"the backend has no option {name!r}: joblib chooses which tasks a worker gets together, and when"
                    " workers end. Give each task its seed as an argument"
                )
        patience = seconds("idle_worker_timeout", options.pop("idle_worker_timeout", IDLE_TIMEOUT))
        self.parallel = parallel
        self._limit, self._mode = max_nbytes, mmap_mode
        self._table, self._known = reducers(), {}
        first = options.pop("initializer", None), options.pop("initargs", ())
        if first[0] is not None and not callable(first[0]):
            raise TypeError("initializer must be a callable")
        made_with = {
            "max_workers": workers,
            "mp_context": _context,
            "initializer": _begin,
            "initargs": (_Initializer(*first), *self._threads(workers)),
            **options,
        }
        self._release()
        self._kept = lend(made_with, patience or 0.0)
        return workers

    def _threads(self, workers: int) -> tuple[dict[str, str], int | None]:
        """Returns the environment of workers, and the number of threads for libraries that they have loaded already."""
        environment = self._prepare_worker_env(n_jobs=workers)
        asked = self.inner_max_num_threads
        if asked is None and any(name in os.environ for name in self.MAX_NUM_THREADS_VARS):
            return environment, None  # the libraries have read it
        return environment, asked or max(cpu_count() // workers, 1)

    def start_call(self) -> None:
        """Begins a call of `Parallel`: arrays that an earlier call has shared may have changed since."""
        self._table, self._known = reducers(), {}
        if "numpy" in sys.modules:
            from .big_arrays import BigArrays

            self._table.update(BigArrays(self._limit, self._mode).reducers())

    def stop_call(self) -> None:
        """Ends a call of `Parallel`: its arrays in shared memory go with the last of its tasks."""
        self._table, self._known = reducers(), {}

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None) -> Future[Any]:
        """Sends a batch to the workers. Returns its future."""
        kept = self._kept
        assert kept is not None, "Parallel configures the backend first"
        batch: Any = _Batch(func, self._table, self._known)  # what arrives is the function
        future: Future[Any] = kept.executor.submit(batch)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Returns the results of a batch, or raises its exception. out: its future."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends the tasks that run, by killing their workers, and drops the others. The backend stays ready."""
        if self._kept is not None:
            self._kept.give_up_calls()

    def terminate(self) -> None:
        """Ends the use of the workers, which stay for the next call."""
        self._release()
        self.reset_batch_stats()

    def _release(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            take_back(kept)

    def __reduce__(self) -> Any:
        # a worker's copy has no workers
        return _copy, (type(self), self.nesting_level, self.inner_max_num_threads, self.backend_kwargs)


class _Initializer(ByValue):
    """An initializer with its arguments, which go by value. Equal to another one with equal parts."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: Any) -> None:
        super().__init__(parts)
        self._parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Initializer) and bool(self._parts == other._parts)

    __hash__ = None  # type: ignore[assignment]


class _Batch(ByValue):
    """A batch of tasks, with the name of its first function for errors and observers."""

    __slots__ = ("__name__",)

    def __init__(self, func: Any, table: Any, known: Any) -> None:
        super().__init__(func, table, known)
        items = getattr(func, "items", None)
        function = items[0][0] if items else func
        self.__name__ = getattr(function, "__name__", None) or type(function).__name__


_context = BareSpawnContext()


# --- in the workers ---


def _begin(first: tuple[Any, tuple[Any, ...]], environment: dict[str, str], threads: int | None) -> None:
    """Prepares a worker. first: the program's initializer, or None, and its arguments. threads: of loaded libraries."""
    from ..joblib import register

    if threads is not None:
        from .._pool.blas_threads import limit

        limit(threads)
    os.environ.update(environment)
    register()
    initializer, arguments = first
    if initializer is not None:
        initializer(*arguments)


def _copy(kind: type[ProcessionBackend], level: int | None, threads: int | None, options: dict[str, Any]) -> Any:
    return kind(nesting_level=level, inner_max_num_threads=threads, **options)
