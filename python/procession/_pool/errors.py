"""The exceptions of tasks."""

from __future__ import annotations

import builtins
from contextlib import suppress

from .._start.exit_report import RemoteTraceback, how, set_cause, unpickled
from ..context import ProcessError, TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "MaybeEncodingError",
    "NodeDiedError",
    "PoolBrokenError",
    "TaskTimeoutError",
    "WorkerDiedError",
    "error_of",
    "name_of",
]

_LONGEST = 200  # characters of an item in a note


class WorkerDiedError(ProcessError):
    """Raised if the worker of a task died, as often as the task may be run (`retries`).

    Attributes:
        pid: the process id of the last worker.
        exitcode: the exit code of the last worker (-N: signal N killed it); None if that cannot be known.
        function: the name of the function.
        task: the index of the item, for `map` and the like; None for `apply`.
        deaths: number of workers that died with the task.
    """

    __module__ = "procession"  # the public name, which pickles use

    def __init__(
        self,
        message: str,
        pid: int = 0,
        exitcode: int | None = None,
        function: str = "",
        task: int | None = None,
        deaths: int = 1,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.function = function
        self.task = task
        self.deaths = deaths

    def __reduce__(self) -> tuple[Any, ...]:
        # with what else it has: `item_index`, notes
        return type(self), (str(self), self.pid, self.exitcode, self.function, self.task, self.deaths), vars(self)


class NodeDiedError(WorkerDiedError):
    """Raised if a node of a cluster died, or could not be reached any more, with a task that may have run there.

    Attributes:
        node: the name of the node. `pid` is the process id of its Dask worker, and `deaths` counts nodes. The others
            are those of `WorkerDiedError`.
    """

    __module__ = "procession"  # the public name, which pickles use

    def __init__(
        self,
        message: str,
        pid: int = 0,
        exitcode: int | None = None,
        function: str = "",
        task: int | None = None,
        deaths: int = 1,
        node: str = "",
    ) -> None:
        super().__init__(message, pid, exitcode, function, task, deaths)
        self.node = node

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*super().__reduce__()[1], self.node), vars(self)


class TaskTimeoutError(TimeoutError, builtins.TimeoutError):
    """Raised if a task took longer than its `timeout=`; its worker was killed and replaced.

    It is a `procession.TimeoutError` and a built-in TimeoutError.

    Attributes:
        function: the name of the function.
        task: the index of the item, for `map` and the like; None for `apply`.
        limit: the seconds that the task was allowed.
    """

    __module__ = "procession"  # the public name, which pickles use

    def __init__(self, message: str, function: str = "", task: int | None = None, limit: float | None = None) -> None:
        super().__init__(message)
        self.function = function
        self.task = task
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.function, self.task, self.limit), vars(self)


class SoftTimeoutError(TaskTimeoutError):
    """Raised in a call that takes longer than its `soft_timeout=`.

    The function may handle it, clean up, and return a value. Otherwise it is the exception of the call, and the worker
    goes on. It is raised once; a call that goes on in spite of it is ended by `timeout=`, if it has one.
    """

    __module__ = "procession"  # the public name, which pickles use


class PoolBrokenError(ProcessError):
    """Raised if the pool cannot run tasks any more: it was terminated, or it cannot start workers.

    If the initializer failed, `__cause__` is its exception, with the traceback in the worker.
    """

    __module__ = "procession"  # the public name, which pickles use


class MaybeEncodingError(Exception):
    """Raised if the result or the exception of a task cannot be pickled and unpickled.

    Attributes:
        exc: the reason, as text.
        value: the result or exception, as text.
    """

    def __init__(self, exc: object, value: object) -> None:
        self.exc: str = exc if isinstance(exc, str) else repr(exc)
        self.value: str = value if isinstance(value, str) else repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"the result of a task cannot be sent: {self.value}. The reason: {self.exc}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def name_of(function: Any) -> str:
    """Returns the name of a function, for errors."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):  # functools.partial
        function = function.func
    name: str = getattr(function, "__name__", None) or type(function).__name__
    return name


def shortened(obj: object) -> str:
    """Returns a short repr of an item, for people to read."""
    from reprlib import Repr

    short = Repr()
    short.maxother = short.maxstring = short.maxlong = 80
    try:
        text = short.repr(obj)
    except Exception:
        text = f"<{type(obj).__qualname__} object>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def note_item(error: BaseException, index: int, item: object) -> None:
    """Adds a note to an exception that says which item's call raised it."""
    _note(error, index, shortened(item))


def mark_item(error: BaseException, index: int) -> None:
    """Sets `item_index` of an exception to the index of the item whose call has raised it."""
    with suppress(Exception):  # the exception may be of a class that takes no attributes
        error.item_index = index  # type: ignore[attr-defined]


def _note(error: BaseException, index: int, item: str) -> None:
    note = f"raised by the call for item {index}: {item}"
    mark_item(error, index)
    with suppress(Exception):  # the exception may be of a class that takes no notes
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def error_of(what: tuple[Any, ...], function: str, first: int | None, broken: BaseException | None) -> BaseException:
    """Returns the exception for an outcome of the engine.

    first: the index of the first item of the task, or None. broken: the error that broke the pool.
    """
    kind, *facts = what
    if kind == "raised":
        return _raised(first, *facts[0])
    if kind == "exception":  # of a thread: the exception itself
        found: BaseException = facts[0]
        return found
    if kind == "unsendable":
        return MaybeEncodingError(*facts[0])
    if kind == "unreadable":
        error: BaseException = facts[0]
        with suppress(Exception):  # the exception may be of a class that takes no notes
            error.add_note(f"raised by the result of {function}(), which arrived and cannot be unpickled here")
        return error
    if kind == "cancelled":
        from concurrent.futures import CancelledError

        return CancelledError()
    if kind == "abandoned":
        if broken is None:
            return PoolBrokenError("the pool was terminated before this task was done")
        if isinstance(broken, PoolBrokenError):  # of a cluster: it says what broke the pool
            return PoolBrokenError(*broken.args)
        stopped = PoolBrokenError(f"the pool cannot start workers: {type(broken).__name__}: {broken}")
        stopped.__cause__ = broken
        return stopped
    made: WorkerDiedError | TaskTimeoutError
    pid, code, item, deaths, memory, limit = facts
    task = None if first is None else first + item
    which = f"{function}()" if task is None else f"task {task} ({function})"
    if kind == "timeout":
        text = f"{which} took longer than the {limit:g} seconds that it may; worker {pid} was killed for it"
        made = TaskTimeoutError(text, function, task, limit)
    else:
        ended = "ended in an unknown way" if code is None else how(code, memory)
        times = "" if deaths == 1 else f", the last of {deaths} workers to die with it,"
        text = f"worker {pid}{times} {ended} while it ran {which}"
        made = WorkerDiedError(text, pid, code, function, task, deaths)
    if task is not None:
        mark_item(made, task)
    return made


def _raised(
    first: int | None, kind: str, message: str, text: str, pickled: bytes | None, place: tuple[int, str] | None
) -> BaseException:
    error, why = unpickled(pickled)
    if error is None:
        error = MaybeEncodingError(why, f"{kind}: {message}")
    set_cause(error, RemoteTraceback(text))
    if place is not None and first is not None:
        _note(error, first + place[0], place[1])
        if isinstance(error, SoftTimeoutError):
            error.task = first + place[0]
    return error
