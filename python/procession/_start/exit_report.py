"""Reports about the end of processes: the exception that ended a child, or a text that says what else did.

If an exception ends a child, the child leaves a report in its seat of the registry, in family memory. Its parent reads
it when a program reads `process.exception`. The report contains the exception as a pickle of its own. So if that cannot
be pickled or unpickled, its name, its text and its traceback still arrive.
"""

from __future__ import annotations

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..process import BaseProcess

__all__ = [
    "RemoteTraceback",
    "exception_of",
    "how",
    "leave_report",
    "note_memory",
    "ran_out_of_memory",
    "set_cause",
    "unpickled",
]


class RemoteTraceback(Exception):
    """The traceback of an exception in the process that raised it, as text. It is the exception's `__cause__` here."""

    __module__ = "procession.pool"  # where multiprocessing has it; pickles use this name

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


# --- in the child ---


def leave_report(error: BaseException) -> None:
    """Stores a report about the exception that ends this process. Errors in doing so are ignored."""
    try:
        from pickle import dumps
        from traceback import format_exception

        text = "".join(format_exception(error))
        try:
            pickled = _pickled(error)
        except Exception:
            pickled = None
        try:
            message = str(error)
        except Exception:
            message = "<its text cannot be told>"
        _core.leave_report(dumps((type(error).__qualname__, message, text, pickled)))
    except Exception:  # for example no memory is left; the exit code still says that the process has failed
        pass


def _pickled(error: BaseException) -> bytes:
    from .. import reduction
    from .._serialize import by_value

    return by_value.dumps(error, reduction._dumps_slow)


# --- in the parent ---


def exception_of(process: BaseProcess, code: int, report: bytes | None, out_of_memory: bool) -> BaseException | None:
    """Returns what ended a process with this exit code; None if it ended well."""
    from .._errors import ProcessDiedError

    if code == 0:
        return None
    who = f"{process.name} (pid {process.pid})"
    if report is None or code < 0:
        return ProcessDiedError(f"{who} {how(code, out_of_memory)}", process.pid or 0, process.name, code)
    return read_report(report, who, ProcessDiedError("", process.pid or 0, process.name, code))


def set_cause(error: BaseException, cause: BaseException) -> None:
    """Sets the cause of an exception, also of one whose class refuses to set attributes (a frozen dataclass)."""
    descriptor: Any = BaseException.__cause__
    descriptor.__set__(error, cause)


def read_report(report: bytes, who: str, otherwise: Exception) -> BaseException:
    """Returns the exception of a report, with the traceback as its cause. If it cannot be unpickled: `otherwise`, with
    its text."""
    from pickle import loads

    kind, message, text, pickled = loads(report)
    error, why = unpickled(pickled)
    if error is None:
        error = otherwise
        error.args = (f"{who} ended with {kind}: {message} ({why})",)
    set_cause(error, RemoteTraceback(text))
    return error


def how(code: int, out_of_memory: bool = False) -> str:
    """Returns how a process ended, to follow its name: `ended with exit code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"ended with exit code {code}"
    from .._process.display import name_of_exit_code

    name = name_of_exit_code(code)[1:]
    signal = name if name.startswith("SIG") else f"signal {name}"
    return f"was killed by {signal}" + (": out of memory" if out_of_memory else "")


def unpickled(pickled: bytes | None) -> tuple[BaseException | None, str]:
    """Returns the exception that another process has pickled; or None, and the reason. None: pickling failed there."""
    from pickle import loads

    if pickled is None:
        return None, "it cannot be pickled"
    try:
        error = loads(pickled)
    except Exception as refusal:
        return None, f"it cannot be unpickled: {type(refusal).__name__}: {refusal}"
    return (error if isinstance(error, BaseException) else None), "its pickle is something else"


# --- memory ---

_oom_kills: int | None = None
_counts = False


def note_memory() -> None:
    """Stores how many processes the kernel has killed for lack of memory. Call it before the first child starts."""
    global _oom_kills, _counts  # noqa: PLW0603 (of this process)
    if not _counts:
        _counts = True
        _oom_kills = _core.oom_kills()


def ran_out_of_memory() -> bool:
    """Returns whether a child that was found killed by SIGKILL, not by us, was killed because memory ran out.

    It uses the counter of the control group, which does not say which processes it counts. For each count since the
    last call, one of our dead children is taken to be the counted one.
    """
    global _oom_kills  # noqa: PLW0603 (of this process)
    if _oom_kills is None or (_core.oom_kills() or 0) <= _oom_kills:
        return False
    _oom_kills += 1
    return True
