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

class MapOptions(TypedDict, total=False):
    """Options of `map`, `starmap`, `imap` and their variants. multiprocessing has none of them.

    Attributes:
        timeout: seconds per task; None: that of the pool.
        retries: per task; None: that of the pool.
        progress: shows a bar, if tqdm is installed.
    """

    timeout: float | None
    retries: int | None
    progress: bool
