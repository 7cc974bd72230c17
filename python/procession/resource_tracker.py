"""The watcher: a small process that removes named segments which a program has left behind, however it ended.

Locks, queues, values and arrays of this package have no names, and nothing is to be removed. So there is a watcher
only where `shared_memory` is used: the first of a family to make a segment starts it, the others find it through
family memory. It ends with the last process of the family, and when there was nothing to watch for a while. Killed,
it is replaced by whoever needs it next; what it watched is found by the next watcher of any program (see
`_segments.sweep`).

Other things with names can be put in its care: `register(name, type)` for a type in `_CLEANUP_FUNCS`.
"""

from __future__ import annotations

import os
import signal
import sys
from _thread import RLock
from time import monotonic, sleep

# spawn here and not when it is needed: a child that is forked while another thread imports it finds it locked
from . import _core, process, spawn, util
from ._memory import segments as _segments
from ._process import visible_start as _visible_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ensure_running", "register", "unregister"]

# what is done with the names of each type that are left in the end
_CLEANUP_FUNCS: dict[str, Callable[[str], object]] = {"noop": lambda name: None, "shared_memory": _segments.unlink}
if sys.version_info >= (3, 13):
    _CLEANUP_FUNCS["dummy"] = lambda name: None  # for tests, which older Pythons do not have

PIPE_FD, FAMILY_FD = 3, 4  # where _core.spawn puts what the watcher gets
LONGEST = 512  # bytes of a message: what POSIX promises that a pipe takes as a whole


class ReentrantCallError(RuntimeError):
    """The tracker was called from within itself, by a finalizer or a signal handler, for what cannot wait."""


class _Lock(util.ForkAwareThreadLock):
    """A lock that its holder may take again: a finalizer or a signal handler may come while a thread holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = False  # whoever holds it looks for a watcher, or starts one
        self.waiting: list[bytes] = []  # messages of calls that came in between
        self._lock = lock = RLock()  # type: ignore[assignment]
        self.acquire, self.release = lock.acquire, lock.release
        if sys.version_info >= (3, 12):
            self._recursion_count = lock._recursion_count  # type: ignore[attr-defined]

    def _at_fork_reinit(self) -> None:
        # the thread that was at work is in the parent, and sends there what waits
        super()._at_fork_reinit()
        self.at_work, self.waiting = False, []


class ResourceTracker:
    """The client's side: the way to a watcher, which is started when it is needed."""

    def __init__(self, *, shared: bool = False) -> None:
        """shared: use the watcher of the family, and list there the one that is started."""
        self._shared = shared
        self._lock = _Lock()
        self._pipe: _core.Descriptor | None = None
        self._listed = False  # in family memory, as the one that others use
        self._pid: int | None = None
        self._starter: int | None = None  # the process whose child it is
        self._exitcode: int | None = None
        self._waitpid_timed_out = False  # the last `_stop` had a time limit, and left a watcher that did not end in it
        # of newer Pythons' trackers: whether messages are lines. Here they are, whatever a name has in it.
        self._use_simple_format = True

    @property
    def _fd(self) -> int | None:
        """The descriptor that leads to the watcher; None if there is none, or if the program has closed it."""
        return self._pipe.fileno() if self._pipe is not None and self._pipe.is_open() else None

    def getfd(self) -> int:
        """A descriptor that leads to the watcher."""
        self.ensure_running()
        assert self._pipe is not None
        return self._pipe.fileno()

    def ensure_running(self) -> None:
        """Starts a watcher unless there is one. A warning if there was one that was killed."""
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
        if self._pipe is not None and not self._pipe.is_open():  # the program has closed what it does not know
            self._let_go()
        if self._fd is not None:
            if self._check_alive():
                return
            # it strikes itself off when it has nothing to do any more
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
        """Whether there is a watcher at the other end."""
        assert self._pipe is not None
        try:
            os.write(self._pipe.fileno(), b"PROBE:0:noop\n")
        except OSError:
            return False
        return True

    def _find(self) -> bool:
        """Gets hold of the family's watcher, if there is one."""
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
            # it ignores these two, and none may come before it does
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
                # another process was faster; ours ends, having heard nothing
                launched.close()
                os.waitpid(pid, 0)
                break
            # the other one has ended between the two

    def _let_go(self, wait_timeout: float | None = None) -> None:
        """Forgets the watcher; waits for it if it is our child, for so many seconds or until it has ended."""
        # in this order: a child that another thread forks in between must not write to what is another file by then
        pipe, self._pipe = self._pipe, None
        lost = pipe is not None and not pipe.is_open()
        if pipe is not None:
            pipe.close()
        (pid, self._pid), (starter, self._starter) = (self._pid, None), (self._starter, None)
        if starter == os.getpid() and pid is not None:
            # one that we cannot reach any more may have others to serve
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
        except ChildProcessError:  # somebody else has waited for it
            pass

    def _stop(self, use_blocking_lock: bool = True, wait_timeout: float | None = None) -> None:
        """Ends the watcher, if it is a child of this process and nobody else uses it, and waits for it: for tests.

        A child that was forked uses it as well. wait_timeout: no longer than so many seconds, after which
        `_waitpid_timed_out` is true. Without use_blocking_lock another thread that holds the lock is not waited for: at
        the end of a program it may be gone. ReentrantCallError: called from within another method of the tracker.
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
        """Has the watcher remove name, which is of that type, when the family has ended.

        ValueError: the name is too long.
        """
        self._send("REGISTER", name, rtype)

    def unregister(self, name: str, rtype: str) -> None:
        """The watcher need not care for name any more."""
        self._send("UNREGISTER", name, rtype)

    def _send(self, command: str, name: str, rtype: str) -> None:
        message = f"{command}:{_quoted(name)}:{rtype}\n".encode("utf-8", "surrogateescape")
        if len(message) > LONGEST:
            raise ValueError(f"the name is too long for the resource tracker: {name!r}")
        with self._lock:
            if self._lock.at_work:  # of this same thread: it goes on when we return, and sends this then
                self._lock.waiting.append(message)
            else:
                self._write(message)

    def _write(self, message: bytes) -> None:
        while True:
            if self._fd is None:
                self._ensure_running()
            assert self._pipe is not None
            try:
                os.write(self._pipe.fileno(), message)
            except BrokenPipeError:
                self._ensure_running()
                continue
            # It may have decided to end before it got this. Then it was struck off the list before.
            if not self._listed or _core.tracker_pid() == self._pid:
                return
            self._let_go()


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("\n", "%0A").replace(":", "%3A")


def _unquoted(name: str) -> str:
    return name.replace("%3A", ":").replace("%0A", "\n").replace("%25", "%")


_IGNORED = (signal.SIGINT, signal.SIGTERM)
_resource_tracker = ResourceTracker(shared=True)
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd


def _track_segment(name: str, made: bool) -> None:
    """Has the watcher look after a segment that this process has made, or only attached to."""
    _resource_tracker._send("REGISTER" if made else "ATTACH", name, "shared_memory")


def main(shared: int) -> None:
    """The watcher's program."""
    from ._memory.tracker_main import watch

    watch(PIPE_FD, FAMILY_FD if shared else None)


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
