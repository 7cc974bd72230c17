"""What a child needs of other modules when it begins, gathered here and imported before the child exists.

In a forked child the first access to an object copies its page, because that changes the reference count. An `import`
statement touches about thirty objects, more than the rest of the beginning. `process` finds these names here, since all
these modules import it and it can import none of them.
"""

from __future__ import annotations

import sys

from .. import _core
from .._core import describe, release_signals
from ..context import _force_start_method
from ..process import BaseProcess
from ..util import _close_stdin, _finalizer_registry, _flush_std_streams, _run_after_forkers
from . import log
from .stdlib_compat import after_fork, take_name

TYPE_CHECKING = False

__all__ = [
    "_ParentProcess",
    "_close_stdin",
    "_finalizer_registry",
    "_flush_std_streams",
    "_force_start_method",
    "_run_after_forkers",
    "after_fork",
    "describe",
    "exit_code_of",
    "log",
    "release_signals",
    "status_of",
    "take_name",
]


def exit_code_of(stop: SystemExit) -> int:
    """Returns the exit code for `sys.exit(code)`. As in each Python program, a text is printed and means 1."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    if sys.stderr is not None:
        sys.stderr.write(f"{stop.code}\n")
    return 1


def status_of(code: int, bits: int, beyond: int) -> int:
    """Returns the exit status for a code: its low byte, or `beyond` if the code does not fit a signed number of `bits`
    bits (plus the sign).

    The start method decides by which C function Python exits, and so which number of bits counts.
    """
    return code & 0xFF if -(1 << bits) <= code < 1 << bits else beyond


class _ParentProcess(BaseProcess):
    """The parent, as its child sees it. The child opens a pidfd when it asks for more than name and pid."""

    __module__ = "procession.process"  # where multiprocessing has it

    if TYPE_CHECKING:
        _sentinel: int | None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, name: str, pid: int, sentinel: int | None, start_time: int) -> None:
        self._identity = ()
        self._name = name
        self._pid = pid
        self._start_time = start_time
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._config = {}
        self._sentinel = sentinel

    @property
    def ident(self) -> int | None:
        """The process id."""
        return self._pid

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the parent ends."""
        if self._sentinel is None:
            # readable at once if another process has the pid by now
            fd = _core.open_sentinel(self._pid, self._start_time)
            self._sentinel = fd  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._sentinel

    def is_alive(self) -> bool:
        """Returns whether the parent has not ended yet."""
        return not _ended(self.sentinel, 0.0)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the parent has ended, at most `timeout` seconds; None: without limit."""
        _ended(self.sentinel, timeout)


def _ended(sentinel: int, timeout: float | None) -> bool:
    return bool(_core._poll([(sentinel, 1)], None if timeout is None else max(0.0, timeout)))
