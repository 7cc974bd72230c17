"""What people read about a process: its object and its exit code."""

from __future__ import annotations

import os
import sys

from .. import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..process import BaseProcess

__all__ = ["name_of_exit_code", "names_of_exit_codes", "print_exception", "shown"]


def shown(self: BaseProcess) -> str:
    """Returns the process as `repr` shows it."""
    code = None
    if self is process.current_process():
        state = "started"
    elif self._closed:
        state = "closed"
    elif self._parent_pid != os.getpid():
        state = "unknown"
    elif self._popen is None:
        state = "initial"
    else:
        code = self._popen.poll()
        state = "started" if code is None else "stopped"
    words = [type(self).__name__, f"name={self._name!r}"]
    if self._popen is not None:
        words.append(f"pid={self._popen.pid}")
    words += [f"parent={self._parent_pid}", state]
    if code is not None:
        words.append(f"exitcode={name_of_exit_code(code)}")
    if self.daemon:
        words.append("daemon")
    return f"<{' '.join(words)}>"


def name_of_exit_code(code: int) -> str:
    """Returns the name of an exit code: -SIGKILL for -9."""
    if code < 0:
        import signal

        try:
            return f"-{signal.Signals(-code).name}"
        except ValueError:  # a real-time signal
            pass
    return str(code)


def names_of_exit_codes() -> dict[int, str]:
    """Returns the names of exit codes for all signals with a name: -9: "-SIGKILL", and so on."""
    import signal

    found = {-number: name_of_exit_code(-number) for number in signal.valid_signals()}
    return {code: text for code, text in found.items() if not text[1:].isdigit()}


def print_exception(name: str) -> None:
    """Prints the exception that has ended the process of that name."""
    if sys.stderr is None:
        return
    import traceback

    sys.stderr.write(f"Process {name}:\n")
    traceback.print_exc()
