"""A pool's worker, in its own process: from the start to the loop in Rust, and the errors on the way."""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from contextlib import suppress
from io import TextIOWrapper

from .. import _core
from .._start import exit_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["described", "main", "unsendable", "worker_id", "worker_state"]

# The pid of this process and its number in the pool, if it is a worker. A process that it forks is none.
_here: tuple[int, int] | None = None
_state: dict[Any, Any] = {}
# the numbers and states of the threads of this process that are workers, by the pid and the identity of the thread
threads: dict[tuple[int, int], tuple[int, dict[Any, Any]]] = {}


def worker_id() -> int | None:
    """Returns the number of this worker in its pool: 0 to n - 1. A worker that replaces another one has its number.

    In a pool over a cluster, each node numbers its own workers from 0. In a
    `ThreadPool` it is the number of the thread. multiprocessing has no such function.

    Returns:
        The number; None in a process or thread that is no worker, also in a process that a worker starts.
    """
    if threads and (found := threads.get((os.getpid(), get_ident()))) is not None:
        return found[0]
    return _here[1] if _here is not None and _here[0] == os.getpid() else None


def worker_state() -> dict[Any, Any]:
    """Returns a dictionary of this worker, which is empty when the worker starts and lives as long as it.

    An initializer puts there what all calls of the worker use: a connection, a model. The dictionary is not shared and
    not sent; a worker that replaces another one begins with an empty one. In a process that is no worker it is a
    dictionary of the process. multiprocessing has no such function.

    Example:
        ```py
        def begin(path):
            mp.worker_state()["database"] = sqlite3.connect(path)

        def look_up(key):
            return mp.worker_state()["database"].execute(QUERY, (key,)).fetchone()

        with mp.Pool(initializer=begin, initargs=("names.db",)) as pool:
            rows = pool.map(look_up, keys)
        ```
    """
    if threads and (found := threads.get((os.getpid(), get_ident()))) is not None:
        return found[1]
    return _state


def main(
    handle: bytes,
    slot: int,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    most: int | None,
    memory: int | None,
    more: dict[str, Any] | None,
) -> None:
    """Runs a worker: initializer(*initargs), then one task after the other.

    most: number of tasks after which it ends. memory: bytes of memory above which it ends. more: the options of
    `OfPool.for_workers`, which `worker_setup` applies; None: there are none, and it is not imported.
    """
    global _here, _state
    _here, _state = (os.getpid(), slot), {}
    threads.clear()
    _write_lines_at_once()
    if more is not None:
        from .worker_setup import finish, prepare

        prepare(more)
    if initializer is not None:
        try:
            initializer(*initargs)
        except Exception as error:
            # the parent reports it once; otherwise each worker would print it
            exit_report.leave_report(error)
            raise SystemExit(1) from None
    why = _core.work_in_pool(handle, slot, None, most, memory)
    if more is not None:
        finish(more, why != "gone")  # pyright: ignore[reportPossiblyUnboundVariable]


def _write_lines_at_once() -> None:
    """Makes standard output write line by line, also if it is no terminal: a worker may be killed at any time, for
    example because of a later task, and its buffer would be lost.
    """
    out = sys.stdout
    if type(out) is TextIOWrapper and not out.line_buffering:
        with suppress(OSError, ValueError):  # the stream is closed, or cannot be written to
            out.reconfigure(line_buffering=True)


def described(
    error: BaseException,
    place: tuple[int, object] | None,
    dumps: Callable[[BaseException], bytes | None] = exit_report._pickled,
) -> tuple[str, str, str, bytes | None, tuple[int, str] | None]:
    """Returns an exception in parts that can be sent: its type, its text, its traceback, its pickle, and the item.

    place: the number of the item in the task, and the item. dumps: pickles the exception.
    """
    from traceback import format_exception

    try:
        text = "".join(format_exception(error))
    except Exception:
        text = "<its traceback cannot be told>"
    try:
        message = str(error)
    except Exception:
        message = "<its text cannot be told>"
    try:
        pickled = dumps(error)
    except Exception:
        pickled = None
    at = None
    if place is not None:
        from .errors import shortened

        at = place[0], shortened(place[1])
    return type(error).__qualname__, message, text, pickled, at


def unsendable(error: BaseException, value: object) -> tuple[str, str]:
    """Returns the texts of a result that cannot be sent: the reason, and the result."""
    return _shown(error), _shown(value)


def _shown(obj: object) -> str:
    try:
        return repr(obj)
    except Exception:
        return f"<{type(obj).__qualname__} object>"
