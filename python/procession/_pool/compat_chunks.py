"""How multiprocessing's workers run a chunk of `map` and send an exception, for code that was written for its pool.
`pool` has these under its own name.
"""

from __future__ import annotations

from .._start.exit_report import RemoteTraceback, set_cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

__all__ = ["ExceptionWithTraceback", "mapstar", "rebuild_exc", "starmapstar"]


def mapstar(args: tuple[Any, ...]) -> list[Any]:
    """Runs a chunk of `map` there: list(map(*args))."""
    return list(map(*args))


def starmapstar(args: tuple[Callable[..., Any], Iterable[Iterable[Any]]]) -> list[Any]:
    """Runs a chunk of `starmap` there."""
    function, items = args
    return [function(*item) for item in items]


class ExceptionWithTraceback:
    """An exception that is pickled with its traceback, as text, which becomes its `__cause__`."""

    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None:
        from traceback import format_exception

        self.exc = exc
        self.tb = '\n"""\n' + "".join(format_exception(type(exc), exc, tb)) + '"""'
        self.exc.__traceback__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """Unpickles an `ExceptionWithTraceback`."""
    set_cause(exc, RemoteTraceback(tb))
    return exc
