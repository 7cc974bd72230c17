"""Starts a process by fork, and holds a started process."""

from __future__ import annotations

import atexit
import os
import sys

from . import _core, process, util
from ._process import bootstrap as _bootstrap
from ._process import stdlib_compat as _stdlib_compat
from ._start import exit_report as _exit_report
from ._start import lifeline as _lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar, NoReturn

    from .process import BaseProcess

__all__ = ["Popen"]


process._in_child, process._leave_report = _bootstrap, _exit_report.leave_report


class Popen:
    """A started process, as its parent holds it. It uses a pidfd, so a later process with the same pid is not mistaken
    for it.

    Making a Popen starts the process. If that raises, there is neither a process nor a Popen.
    """

    method: ClassVar[str] = "fork"

    pid: int
    returncode: int | None
    _child: _core.Child
    _member: _core.Member | None
    _parent: int
    _killed = False
    _out_of_memory = False
    _exception: BaseException | None = None

    def __init__(self, process_obj: BaseProcess) -> None:
        util._flush_std_streams()  # otherwise the child would have a copy of the buffered text
        _exit_report.note_memory()
        self.returncode = None
        self._launch(process_obj)

    def _launch(self, process_obj: BaseProcess) -> None:
        _core.family_fd()  # the child leaves its report in family memory if an exception ends it
        bound = _lifeline.holds(process_obj)
        if bound:
            _lifeline.reader()
        pid, member, pidfd = _fork(process_obj._name)
        if pid == 0:
            live(lambda: _run(process_obj, bound))
        self._hold(pid, lambda: member, pidfd)

    def _hold(self, pid: int, seat: Callable[[], _core.Member | None], pidfd: int = -1, direct: bool = True) -> None:
        """Stores a process that was just started. If that fails, the process is killed."""
        try:
            self._member = seat()
            self._child = _core.Child(pid, self._member, pidfd, direct)
        except BaseException:
            os.kill(pid, 9)
            if direct:
                os.waitpid(pid, 0)
            raise
        self.pid = pid
        self._parent = os.getpid()

    @process.Yielding
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process ends. OSError: a sandbox forbids pidfds."""
        return self._child.sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """Returns the number that this descriptor will have in the child."""
        return fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Returns the exit code; None while the process runs. flag=0: waits for its end."""
        return self.wait(0 if flag == os.WNOHANG else None)

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits until the process has ended. Returns the exit code; None if it still runs after `timeout` seconds."""
        if self.returncode is None and self._parent == os.getpid():  # only its parent can wait for it
            at_once = timeout is not None and timeout <= 0
            code = self._child.poll() if at_once else self._child.wait(timeout)
            # one of the threads that wait asks, once: the answer counts for one child
            if code == -9 and not self._killed and self.__dict__.setdefault("_asks", mark := object()) is mark:
                self._out_of_memory = _exit_report.ran_out_of_memory()
            self.returncode = code
        return self.returncode

    def exception(self, process_obj: BaseProcess) -> BaseException | None:
        """Returns what ended the process; see `Process.exception`."""
        code = self.poll()
        if self._exception is None and code is not None:
            report = None if self._member is None else self._member.report()
            self._exception = _exit_report.exception_of(process_obj, code, report, self._out_of_memory)
        return self._exception

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            sys.audit("os.kill", self.pid, int(sig))  # the event that Python itself raises
            self._child.send_signal(sig)

    def interrupt(self) -> None:
        """Sends SIGINT."""
        from signal import SIGINT

        self._send_signal(SIGINT)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        from signal import SIGTERM

        self._send_signal(SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        from signal import SIGKILL

        self._killed = True
        self._send_signal(SIGKILL)

    def close(self) -> None:
        """Closes the pidfd."""
        self._child.close()


def _fork(name: str) -> tuple[int, _core.Member | None, int]:
    """Calls `os.fork` and holds the child at once: see `_core.fork`."""
    if os.fork is not _os_fork or sys.is_finalizing():  # a program has replaced it; or Python's own refuses to fork now
        try:
            pid = os.fork()
        except OSError:
            _core.fork_refused()
            raise
        return pid, _core.Member.forked(pid, name, "fork") if pid else None, -1
    sys.audit("os.fork")
    forked = _core.fork(name)
    if sys.version_info >= (3, 12) and forked[0] and _core.thread_count() > 1:
        _warn_about_threads()
    return forked


def _warn_about_threads() -> None:
    """Issues the warning of `os.fork` for a fork in a process with several threads."""
    import contextlib
    import warnings

    # the child exists already, so a warning that is turned into an error must not be raised; os.fork() returns too
    with contextlib.suppress(DeprecationWarning):
        warnings.warn(
            f"This process (pid={os.getpid()}) is multi-threaded, use of fork() may lead to deadlocks in the child.",
            DeprecationWarning,
            stacklevel=2,
        )


_os_fork = sys.modules["posix"].fork


def _run(process_obj: BaseProcess, bound: bool) -> int:
    _lifeline.after_fork(bound)
    return process_obj._bootstrap()


def live(work: Callable[[], int]) -> NoReturn:
    """Runs the rest of a forked child: work(), which returns the exit code, and the functions registered for the exit.

    It does not return, whatever happens: the frames above belong to the parent.
    """
    code = 1
    try:
        atexit._clear()
        atexit.register(util._exit_function)
        _stdlib_compat.registered_for_exit()
        code = _bootstrap.status_of(work(), 31, 1)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        try:
            atexit._run_exitfuncs()
            util._flush_std_streams()
            _core.declare_exit(code)
        finally:
            os._exit(code)


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
