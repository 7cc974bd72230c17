"""What goes wrong with a task, as exceptions."""

from __future__ import annotations

import builtins
from contextlib import suppress

from .._start.exit_report import RemoteTraceback, how, unpickled
from ..context import ProcessError, TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MaybeEncodingError", "PoolBrokenError", "TaskTimeoutError", "WorkerDiedError", "error_of", "name_of"]

_LONGEST = 200  # characters of an item in a note


class WorkerDiedError(ProcessError):
    """The worker died that had the task, as often as the task may be run (`retries`).

    pid, exitcode: of the worker, the last one (-N: killed by signal N; None: nobody could tell). function: its name.
    task: the index of the item, for `map` and the like; None for `apply`. deaths: how many workers died with the task.
    """

    __module__ = "procession"  # where it is found, and what pickles call it

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
        return type(self), (str(self), self.pid, self.exitcode, self.function, self.task, self.deaths)


class TaskTimeoutError(TimeoutError, builtins.TimeoutError):
    """The task took longer than its `timeout=`; its worker was killed and replaced.

    It is a `procession.TimeoutError`, and a built-in one. function: its name. task: the index of the item, or None.
    limit: the seconds that the task was given.
    """

    __module__ = "procession"  # where it is found, and what pickles call it

    def __init__(self, message: str, function: str = "", task: int | None = None, limit: float | None = None) -> None:
        super().__init__(message)
        self.function = function
        self.task = task
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.function, self.task, self.limit)


class PoolBrokenError(ProcessError):
    """The pool cannot run tasks any more: it was terminated, or its workers do not come up.

    If it was the initializer, `__cause__` is what that raised, with the traceback there.
    """

    __module__ = "procession"  # where it is found, and what pickles call it


class MaybeEncodingError(Exception):
    """A task's result, or the exception it raised, cannot be pickled and unpickled.

    exc: why, as text. value: what it was, as text.
    """

    def __init__(self, exc: object, value: object) -> None:
        self.exc = exc if isinstance(exc, str) else repr(exc)
        self.value = value if isinstance(value, str) else repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"the result of a task cannot be sent: {self.value}. The reason: {self.exc}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def name_of(function: Any) -> str:
    """A function's name, for errors."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):  # functools.partial
        function = function.func
    name: str = getattr(function, "__name__", None) or type(function).__name__
    return name


def shortened(obj: object) -> str:
    """A repr of an item, for people, that is short whatever the item is."""
    from reprlib import Repr

    short = Repr()
    short.maxother = short.maxstring = short.maxlong = 80
    try:
        text = short.repr(obj)
    except Exception:
        text = f"<{type(obj).__qualname__} object>"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def note_item(error: BaseException, index: int, item: object) -> None:
    """Notes at an exception of which item's call it is."""
    _note(error, index, shortened(item))


def _note(error: BaseException, index: int, item: str) -> None:
    note = f"raised by the call for item {index}: {item}"
    with suppress(Exception):  # of a class that takes no notes
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def error_of(what: tuple[Any, ...], function: str, first: int | None, broken: BaseException | None) -> BaseException:
    """The exception for what the engine says of a task.

    first: the index of its first item, or None. broken: what broke the pool.
    """
    kind, *facts = what
    if kind == "raised":
        return _raised(first, *facts[0])
    if kind == "exception":  # of a thread: it is the very object
        found: BaseException = facts[0]
        return found
    if kind == "unsendable":
        return MaybeEncodingError(*facts[0])
    if kind == "unreadable":
        error: BaseException = facts[0]
        error.add_note(f"raised by the result of {function}(), which arrived and cannot be unpickled here")
        return error
    if kind == "cancelled":
        from concurrent.futures import CancelledError

        return CancelledError()
    if kind == "abandoned":
        made = PoolBrokenError(
            "the pool was terminated before this task was done"
            if broken is None
            else f"the pool cannot start workers: {type(broken).__name__}: {broken}"
        )
        made.__cause__ = broken
        return made
    pid, code, item, deaths, memory, limit = facts
    task = None if first is None else first + item
    which = f"{function}()" if task is None else f"task {task} ({function})"
    if kind == "timeout":
        text = f"{which} took longer than the {limit:g} seconds that it may; worker {pid} was killed for it"
        return TaskTimeoutError(text, function, task, limit)
    ended = "ended, nobody knows how," if code is None else how(code, memory)
    times = "" if deaths == 1 else f", the last of {deaths} workers to die with it,"
    return WorkerDiedError(f"worker {pid}{times} {ended} while it ran {which}", pid, code, function, task, deaths)


def _raised(
    first: int | None, kind: str, message: str, text: str, pickled: bytes | None, place: tuple[int, str] | None
) -> BaseException:
    error, why = unpickled(pickled)
    if error is None:
        error = MaybeEncodingError(why, f"{kind}: {message}")
    error.__cause__ = RemoteTraceback(text)
    if place is not None and first is not None:
        _note(error, first + place[0], place[1])
    return error
