"""The resource tracker: a small process that removes named segments which a program has left behind.

Locks, queues, values and arrays of this package have no names, so nothing needs to be removed for them. So there is a
tracker only where `shared_memory` is used. The first process of a family that makes a segment starts it; the others
find it through family memory. It ends with the last process of the family, and after some time without segments. If it
is killed, the next process that needs a tracker starts a new one; the next tracker of any program finds the segments
that the killed one has left (see `_memory.segments.sweep`).

It can also look after other names: `register(name, type)` for a type in `_CLEANUP_FUNCS`.
"""

from __future__ import annotations

import os
import signal
import sys
from _thread import RLock
from time import monotonic, sleep

# spawn is imported here and not later: a child that is forked while another thread imports it finds it locked
from . import _core, process, spawn, util
from ._memory import segments as _segments
from ._process import visible_start as _visible_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

__all__ = ["ensure_running", "register", "unregister"]

# for each type the function that removes a name that is left at the end
_CLEANUP_FUNCS: dict[str, Callable[[str], object]] = {"noop": lambda name: None, "shared_memory": _segments.unlink}
if sys.version_info >= (3, 13):
    _CLEANUP_FUNCS["dummy"] = lambda name: None  # for tests; older Pythons do not have it

PIPE_FD, FAMILY_FD = 3, 4  # the numbers under which _core.spawn hands over the tracker's descriptors
LONGEST = 512  # bytes of a message: POSIX guarantees that a pipe takes them as a whole


class ReentrantCallError(RuntimeError):
    """Raised if a finalizer or signal handler that interrupted the tracker calls a method that cannot wait."""


class _Lock(util.ForkAwareThreadLock):
    """A lock that its holder may acquire again: a finalizer or signal handler may run while its thread holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = False  # the holder is looking for a tracker or starting one
        self.waiting: list[bytes] = []  # messages of calls that interrupted the holder
        self._lock = lock = RLock()  # type: ignore[assignment]
        self.acquire, self.release = lock.acquire, lock.release
        if sys.version_info >= (3, 12):
            self._recursion_count = lock._recursion_count  # type: ignore[attr-defined]

    def _at_fork_reinit(self) -> None:
        # the thread that was at work exists in the parent only, which sends the messages
        super()._at_fork_reinit()
        self.at_work, self.waiting = False, []


class ResourceTracker:
    """The client's side: the connection to a tracker, which is started when it is needed."""

    def __init__(self, *, shared: bool = False) -> None:
        """shared: use the tracker of the family, and register there the one that is started."""
        self._shared = shared
        self._lock = _Lock()
        self._pipe: _core.Descriptor | None = None
        self._listed = False  # registered in family memory, so that others use it
        self._pid: int | None = None
        self._starter: int | None = None  # the process that has started it
        self._exitcode: int | None = None
        self._waitpid_timed_out = False  # the last `_stop` reached its time limit before the tracker had ended
        # Newer Pythons' trackers store whether messages are lines. Ours always are, with any characters in a name.
        self._use_simple_format = True

    @property
    def _fd(self) -> int | None:
        """The descriptor of the pipe to the tracker; None if there is none, or if the program has closed it."""
        try:
            return None if self._pipe is None else self._pipe.fileno()
        except OSError:
            return None

    def getfd(self) -> int:
        """Returns the descriptor of the pipe to the tracker."""
        self.ensure_running()
        assert self._pipe is not None
        return self._pipe.fileno()

    def ensure_running(self) -> None:
        """Starts a tracker unless there is one. Warns if there was one that was killed."""
        with self._lock:
            if not self._lock.at_work:
                self._ensure_running()

    def _ensure_running(self) -> None:
        self._lock.at_work = True
        try:
            self._find_or_launch()
        finally:
            self._lock.at_work = False
        while self._lock.waiting:
            self._write(self._lock.waiting.pop(0))

    def _find_or_launch(self) -> None:
        if self._pipe is not None and not self._pipe.is_open():  # the program has closed the descriptor
            self._let_go()
        if self._fd is not None:
            if self._check_alive():
                return
            # a tracker that ends because it has nothing to do removes its registration first
            died = not self._listed or _core.tracker_pid() == self._pid
            self._let_go()
            if died:
                import warnings

                warnings.warn(
                    "resource_tracker: process died unexpectedly, relaunching.  Some resources might leak.",
                    stacklevel=3,
                )
        if not (self._shared and self._find()):
            self._launch()

    def _check_alive(self) -> bool:
        """Returns whether there is a tracker at the other end."""
        assert self._pipe is not None
        try:
            os.write(self._pipe.fileno(), b"PROBE:0:noop\n")
        except OSError:
            return False
        return True

    def _find(self) -> bool:
        """Connects to the tracker of the family, if there is one. Returns whether it did."""
        listed = _core.tracker()
        if listed is None or not listed[2]:
            return False
        pid, number, _ = listed
        try:
            fd = os.open(f"/proc/{pid}/fd/{number}", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # it has just ended, or a sandbox forbids it
            return False
        os.set_blocking(fd, True)
        self._pipe = _core.Descriptor(fd)
        self._pid, self._starter, self._listed = pid, None, True
        return True

    def _launch(self) -> None:
        theirs, ours = map(_core.clear_of_streams, os.pipe())
        try:
            command = spawn.command("resource_tracker", "main", shared=self._shared)
            _visible_start.audit(command)
            # the tracker ignores these two signals, and none may arrive before it does
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
            try:
                pid = _core.spawn(command[0], command, [theirs, _core.family_fd()])
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        launched = self._pipe = _core.Descriptor(ours)
        self._pid, self._starter, self._exitcode = pid, os.getpid(), None
        self._listed = False
        for _ in range(3 if self._shared else 0):
            self._listed = _core.register_tracker(pid, PIPE_FD)
            if self._listed:
                break
            if self._find():
                # another process was faster; our tracker ends, since it gets no message
                launched.close()
                os.waitpid(pid, 0)
                break
            # the other tracker has ended in between

    def _let_go(self, wait_timeout: float | None = None) -> None:
        """Drops the tracker. If it is our child, waits for its end; wait_timeout: at most so long, in seconds."""
        # in this order: a child that another thread forks now must not write to a file that reuses the number
        pipe, self._pipe = self._pipe, None
        lost = pipe is not None and not pipe.is_open()
        if pipe is not None:
            pipe.close()
        (pid, self._pid), (starter, self._starter) = (self._pid, None), (self._starter, None)
        if starter == os.getpid() and pid is not None:
            # a tracker that we cannot reach any more may serve others
            self._wait(pid, 0.0 if lost else wait_timeout)

    def _wait(self, pid: int, seconds: float | None) -> None:
        self._exitcode, self._waitpid_timed_out = None, False
        end = None if seconds is None else monotonic() + seconds
        pause = 0.001
        try:
            while True:
                ended, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
                if ended:
                    self._exitcode = os.waitstatus_to_exitcode(status)
                    return
                if end is not None and monotonic() >= end:
                    self._waitpid_timed_out = bool(seconds)
                    return
                sleep(pause)
                pause = min(2 * pause, 0.05)
        except ChildProcessError:  # other code in this process has waited for it
            pass

    def _stop(self, use_blocking_lock: bool = True, wait_timeout: float | None = None) -> None:
        """Ends the tracker, if it is a child of this process and no other process uses it, and waits. For tests.

        A forked child uses it as well. wait_timeout: seconds to wait at most; if they pass, `_waitpid_timed_out` is
        true. use_blocking_lock=False: does not wait for another thread that holds the lock, which may have ended with
        the program. ReentrantCallError: called from within another method of the tracker.
        """
        locked = self._lock.acquire(use_blocking_lock)
        try:
            if locked and self._lock.at_work:
                raise ReentrantCallError("the resource tracker is being started: it cannot be ended now")
            if self._fd is not None:
                self._let_go(wait_timeout)
        finally:
            if locked:
                self._lock.release()

    def register(self, name: str, rtype: str) -> None:
        """Makes the tracker remove `name`, which is of that type, when the family has ended.

        ValueError: the name is too long.
        """
        self._send("REGISTER", name, rtype)

    def unregister(self, name: str, rtype: str) -> None:
        """Makes the tracker forget `name`."""
        self._send("UNREGISTER", name, rtype)

    def _send(self, command: str, name: str, rtype: str) -> None:
        message = f"{command}:{_quoted(name)}:{rtype}\n".encode("utf-8", "surrogateescape")
        if len(message) > LONGEST:
            raise ValueError(f"the name is too long for the resource tracker: {name!r}")
        with self._lock:
            if self._lock.at_work:  # this thread was interrupted; it goes on when we return, and sends the message then
                self._lock.waiting.append(message)
            else:
                self._write(message)

    def _write(self, message: bytes) -> None:
        while True:
            fd = self._fd
            if fd is None:
                self._ensure_running()
                continue
            try:
                os.write(fd, message)
            except BrokenPipeError:
                self._ensure_running()
                continue
            # If it decided to end before it got this message, it removed its registration before.
            if not self._listed or _core.tracker_pid() == self._pid:
                return
            self._let_go()


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("\n", "%0A").replace(":", "%3A")


def _unquoted(name: str) -> str:
    return name.replace("%3A", ":").replace("%0A", "\n").replace("%25", "%")


_IGNORED = (signal.SIGINT, signal.SIGTERM)
_resource_tracker = ResourceTracker(shared=True)
ensure_running: Final = _resource_tracker.ensure_running
register: Final = _resource_tracker.register
unregister: Final = _resource_tracker.unregister
getfd: Final = _resource_tracker.getfd


def _track_segment(name: str, made: bool) -> None:
    """Makes the tracker look after a segment that this process has made (`made`) or attached to."""
    _resource_tracker._send("REGISTER" if made else "ATTACH", name, "shared_memory")


def main(shared: int) -> None:
    """Runs the tracker."""
    from ._memory.tracker_main import watch

    watch(PIPE_FD, FAMILY_FD if shared else None)


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
