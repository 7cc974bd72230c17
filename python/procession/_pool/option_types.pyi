"""The options of pools and of their calls, beyond multiprocessing's arguments: a stub only, there is no such module."""

from typing import Literal, TypedDict

class PoolOptions(TypedDict, total=False):
    """Options of `Pool`, `Context.Pool` and `ProcessPoolExecutor`. multiprocessing has none of them.

    Attributes:
        timeout: seconds that a task may take, unless its own call says otherwise; None: without limit.
        retries: how often a task is run again if its worker died.
        worker_memory_limit: bytes of resident memory, also as "4GB" or "512MiB". A worker that takes much more dies
            (its task: `WorkerDiedError`); one that takes a little more ends after its task.
        inner_threads: threads of numerical libraries in each worker; "auto": the CPUs divided by the workers.
        name: for observers of the running program.
    """

    timeout: float | None
    retries: int
    worker_memory_limit: int | str | None
    inner_threads: int | Literal["auto"] | None
    name: str | None

class CallOptions(TypedDict, total=False):
    """Options of `map` of a pool and of an executor, and of its variants. multiprocessing has none of them.

    Attributes:
        retries: per task; None: that of the pool.
        progress: shows a bar, if tqdm is installed.
        on_error: what becomes of exceptions that calls raise. "raise": the result raises the exception of the first
            item that failed, when all calls are done (`imap`: in its place). "stop": it raises the exception that comes
            first, at once, and gives up all other calls. "return": exceptions are in the places of results. "group": it
            raises an ExceptionGroup of all exceptions, when all calls are done. An exception has the index of its item
            in `item_index`.
    """

    retries: int | None
    progress: bool
    on_error: Literal["raise", "stop", "return", "group"]

class MapOptions(CallOptions, total=False):
    """Options of `map`, `starmap`, `imap` and their variants. multiprocessing has none of them.

    Attributes:
        timeout: seconds per task; None: that of the pool.
    """

    timeout: float | None
