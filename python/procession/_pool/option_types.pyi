"""The options of pools and of their calls, beyond multiprocessing's arguments: a stub only, there is no such module."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

from .output_relay import WorkerOutput

RetryOn: TypeAlias = type[Exception] | tuple[type[Exception], ...] | None

class PoolOptions(TypedDict, total=False):
    """Options of `Pool`, `Context.Pool` and `ProcessPoolExecutor`. multiprocessing has none of them.

    Attributes:
        timeout: seconds that a task may take, unless its own call says otherwise; None: without limit.
        soft_timeout: seconds after which `SoftTimeoutError` is raised in a call, in the worker: it may clean up and
            return. It must be less than `timeout`, which then ends the worker. Each attempt of `retry_on` has the whole
            time. It needs SIGALRM, so the function must not use that signal.
        retries: how often a task is run again if its worker died; with `retry_on` also how often a call is made again
            that has raised. Each is counted by itself.
        retry_on: a class of exceptions, or a tuple. A call that raises one of them is made again in the same worker. It
            needs `retries`. The last exception has a note with the number of attempts.
        retry_delay: seconds before the first retry; doubled for each further one, up to 60. Time limits count them.
        worker_memory_limit: bytes of resident memory, also as "4GB" or "512MiB". A worker that takes much more dies
            (its task: `WorkerDiedError`); one that takes a little more ends after its task.
        inner_threads: threads of numerical libraries in each worker; "auto": the CPUs divided by the workers.
        env: environment variables of the workers; None removes one. A worker sets them before its initializer; under
            spawn and forkserver also before it imports the main module.
        exit_function: each worker calls it, without arguments, when it ends in good order: after `close()` or
            `shutdown()`, when `resize()` ends it, and before it is replaced because of `maxtasksperchild` or
            `worker_memory_limit`. A worker
            that is terminated or killed, or dies, does not. The results: `exit_results()`.
        pin: on which CPUs the workers run. "cores": each worker has one of the CPUs that this process may use; more
            workers than CPUs share them. A list: its item for a worker's number is a CPU or a set of CPUs; more workers
            than items begin again at the first.
        logs: whether log records of workers go to the handlers of this process, with the name and the pid of the
            worker. The levels are those that the loggers have here when the pool is made.
        output: "forward" prints what workers write to stdout and stderr here, line by line, with the number of the
            worker before each line. A callable gets each line and a `WorkerOutput` instead, in a thread of the pool.
        seed: makes random numbers the same in each run of the program: each item of a call has a stream of its own,
            which depends on the seed, the number of the call in the pool and the index of the item. `random`, and
            numpy's and torch's global generators where they are imported, are seeded for it; see `task_rng`.
        name: for observers of the running program.
    """

    timeout: float | None
    soft_timeout: float | None
    retries: int
    retry_on: RetryOn
    retry_delay: float | None
    worker_memory_limit: int | str | None
    inner_threads: int | Literal["auto"] | None
    env: Mapping[str, str | None] | None
    exit_function: Callable[[], object] | None
    pin: Literal["cores"] | Sequence[int | Iterable[int]] | None
    logs: bool
    output: Literal["forward"] | Callable[[str, WorkerOutput], object] | None
    seed: int | None
    name: str | None

class RetryOptions(TypedDict, total=False):
    """Options of `map` of a pool and of an executor, and of its variants. multiprocessing has none of them.

    Attributes:
        soft_timeout: seconds for each item; None: that of the pool; see `PoolOptions`. `float("inf")`: without limit.
        retries: per task; None: that of the pool.
        retry_on: None: that of the pool; see `PoolOptions`. An empty tuple: none.
        retry_delay: None: that of the pool.
        priority: workers take waiting tasks with a higher priority first; 0 by default. Those of one priority are taken
            in their order, except while a more urgent task is submitted. A task that runs is not interrupted.
        progress: True, or a dict of tqdm's options: shows a bar, for which tqdm must be installed. Or a callable: it is
            called as callable(done, total) when results have come; `total` is None if it is unknown.
    """

    soft_timeout: float | None
    retries: int | None
    retry_on: RetryOn
    retry_delay: float | None
    priority: int
    progress: bool | dict[str, Any] | Callable[[int, int | None], object]

class CallOptions(RetryOptions, total=False):
    """Options of `map` of a pool and of an executor, and of its variants. multiprocessing has none of them.

    Attributes:
        on_error: what becomes of exceptions that calls raise. "raise": the result raises the exception of the first
            item that failed, when all calls are done (`imap`: in its place). "stop": it raises the exception that comes
            first, at once, and gives up all other calls. "return": exceptions are in the places of results. "group": it
            raises an ExceptionGroup of all exceptions, when all calls are done. An exception has the index of its item
            in `item_index`.
    """

    on_error: Literal["raise", "stop", "return", "group"]

class RaisingCallOptions(RetryOptions, total=False):
    """The options of a call in whose results no exceptions stand, for type checkers."""

    on_error: Literal["raise", "stop", "group"]

class MapOptions(CallOptions, total=False):
    """Options of `map`, `starmap`, `imap` and their variants. multiprocessing has none of them.

    Attributes:
        timeout: seconds per task; None: that of the pool.
    """

    timeout: float | None

class RaisingOptions(RaisingCallOptions, total=False):
    """`MapOptions` of a call in whose results no exceptions stand, for type checkers."""

    timeout: float | None

class ReturningOptions(RetryOptions, total=False):
    """`MapOptions` beside `on_error="return"`, for type checkers."""

    timeout: float | None
