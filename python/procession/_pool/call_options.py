"""Options of pools and of their calls: checks, the additions to multiprocessing's, the bar that `progress` shows."""

from __future__ import annotations

from .._arguments import count
from .._process import cpu_count as _cpu_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import BaseContext

__all__ = ["bar_of", "beyond", "worker_options"]


def beyond(timeout: float | None, retries: int | None, progress: bool) -> dict[str, Any]:
    """Returns the arguments that multiprocessing lacks, if they are set: an overridden method need not take them."""
    given: dict[str, Any] = {}
    if timeout is not None:
        given["timeout"] = timeout
    if retries is not None:
        given["retries"] = retries
    if progress:
        given["progress"] = True
    return given


def bar_of(length: int | None) -> Any:
    """Returns a progress bar; None if tqdm is not installed."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return tqdm(total=length)


def worker_options(
    context: BaseContext, processes: int | None, initializer: Any, maxtasksperchild: Any, inner_threads: Any
) -> tuple[int, int | None]:
    """Checks the options of a pool's workers. Returns their number, and the threads of libraries in each."""
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
    return processes, inner_threads
