"""Process objects: activities that run in processes of their own, as `threading.Thread` objects run in threads."""

from __future__ import annotations

import atexit
import itertools
import os
import sys
from _weakrefset import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    from .popen_fork import Popen

    Kind = TypeVar("Kind", bound=type)

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

try:
    ORIGINAL_DIR: str | None = os.path.abspath(os.getcwd())
except OSError:  # the working folder has been removed
    ORIGINAL_DIR = None


def current_process() -> BaseProcess:
    """The Process object of this process. In the main process it is one that nobody made."""
    return _current_process


def parent_process() -> BaseProcess | None:
    """The Process object of the process that started this one; None in the main process.

    It knows its `name` and `pid`, and `is_alive()` and `join()` work on it, whichever the start method: under
    "forkserver" the parent is the process that called `start()`, not the server.
    """
    return _parent_process


def active_children() -> list[BaseProcess]:
    """The children of this process that are alive. Those that have ended are joined on the way."""
    _cleanup()
    me = os.getpid()  # in a child made by os.fork() itself, the objects are those of its parent's children
    return [child for child in tuple(_children) if child._parent_pid == me]


def _cleanup() -> None:
    """Takes note of the children that have ended."""
    for child in tuple(_children):
        popen = child._popen
        if popen is not None and popen.poll() is not None:
            _children.discard(child)
    # not there yet while another thread imports the module
    server = getattr(sys.modules.get(f"{__package__}.forkserver"), "_forkserver", None)
    if server is not None:
        server._wait_for_retired()


def lending(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module, for names that its twin has only because it imports them."""

    def lend(name: str) -> Any:
        if not name.startswith("__"):  # each import statement looks for a `__path__`
            from ._process.stdlib_names import find

            return find(module, name)
        raise AttributeError(name)

    return lend


class Yielding:
    """A property that gives way to what a derived class sets under its name: multiprocessing's class has no such
    attribute. Our own code does not look at it: it asks the class that computes it."""

    def __init__(self, compute: Callable[[Any], Any], doc: str | None = None) -> None:
        self.compute, self.__doc__ = compute, doc or compute.__doc__

    def __get__(self, obj: object, kind: type | None = None) -> Any:
        return self if obj is None else self.compute(obj)


def yields(*names: str) -> Callable[[Kind], Kind]:
    """A decorator of classes: these properties of theirs, or of their compiled base, give way."""

    def decorate(kind: Kind) -> Kind:
        for name in names:
            found = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
            setattr(kind, name, Yielding(found.__get__, found.__doc__))
        return kind

    return decorate


class BaseProcess:
    """An activity in a process of its own. What `Process` of every context derives from."""

    _identity: tuple[int, ...]
    _config: dict[str, Any]
    _parent_pid: int | None
    _popen: Popen | None
    _inheriting: bool

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:
        """Starts the process; a context's class says how."""
        raise NotImplementedError

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        """`run()` calls target(*args, **kwargs). A derived class must call this `__init__` before anything else.

        name: for people to read; by default the class's name and a number. daemon: by default what the current
        process is. Under "spawn" and "forkserver" the object is pickled when it is started, with its arguments.
        """
        assert group is None, "group argument must be None for now: there are no groups"
        self._identity = (*_current_process._identity, next(_process_counter))
        self._config = _current_process._config.copy()
        self._parent_pid = os.getpid()
        self._parent_name = _current_process.name
        self._popen = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if daemon is not None:
            self.daemon = daemon
        _dangling.add(self)

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def run(self) -> None:
        """What the process does. A derived class may override it instead of giving a target."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Starts the process; returns once it exists, which is before it runs. To be called once.

        Whatever goes wrong is raised here (an argument that cannot be pickled, no process left to be had), and then
        the object is as it was before. AssertionError: it was started already, or by another process.

        A daemonic process may have children, in contrast to multiprocessing. They end with it, however it ends, and so
        do theirs.
        """
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        _cleanup()
        parent = _current_process._config
        if parent.get("daemon") or parent.get("bound"):
            self._config["bound"] = True
        self._config["parent_start"] = _own_start_time()
        self._popen = self._Popen(self)
        # the parent has no use for them any more, and they may refer to this very object
        del self._target, self._args, self._kwargs
        _children.add(self)

    def terminate(self, *, grace: float | None = None) -> None:
        """Sends SIGTERM. Nothing happens if the process has ended. Its own children are not told (daemonic ones end).

        grace: seconds that the process gets to end by itself; then it is killed, and in any case joined. None: this
        returns at once.
        """
        if grace is not None:
            from ._arguments import seconds

            grace = seconds("grace", grace)
        _popen_of(self).terminate()
        if grace is not None:
            self.join(grace)
            _popen_of(self).kill()
            self.join()

    def kill(self) -> None:
        """Sends SIGKILL. Nothing happens if the process has ended. Its own children are not told."""
        _popen_of(self).kill()

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does: KeyboardInterrupt in the child, unless it handles the signal otherwise."""
        _popen_of(self).interrupt()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the process has ended, or for so many seconds; `exitcode` tells which. None: without limit.

        A process that was killed has ended like any other; joining it never hangs.
        """
        if _popen_to_join(self).wait(timeout) is not None:
            _children.discard(self)

    def is_alive(self) -> bool:
        """Whether the process was started and has not ended yet."""
        self._check_closed()
        if self is _current_process:
            return True
        assert self._parent_pid == os.getpid(), "can only test a child process"
        if self._popen is None:
            return False
        if self._popen.poll() is None:
            return True
        _children.discard(self)
        return False

    def close(self) -> None:
        """Lets go of what the object holds, a file descriptor above all. Most methods raise ValueError from then on.

        ValueError: the process is still running.
        """
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError("Cannot close a process while it is still running. Call join() or terminate() first.")
            self._popen.close()
            self._popen = None
            _children.discard(self)
        self._closed = True

    @property
    def name(self) -> str:
        """The process's name. It need not be unique and has no meaning, but errors show it."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name
        if self is _current_process:
            from ._core import describe

            describe(name)

    @property
    def daemon(self) -> bool:
        """Whether the process is terminated when its parent exits, instead of joined. To be set before the start.

        If the parent is killed, a daemonic process is so too. (In multiprocessing it would go on.)
        """
        daemonic: bool = self._config.get("daemon", False)
        return daemonic

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> bytes:
        """The key by which connections between processes are authenticated; a child has its parent's."""
        key: bytes = self._config["authkey"]
        return key

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """0 to 255 as the process said, or -N if signal N killed it; None while it runs and before it starts.

        255 also stands for what nobody can know: on kernels before 6.15, how a child was killed that somebody else has
        waited for, or the child of a fork server that was itself killed.
        """
        self._check_closed()
        return None if self._popen is None else self._popen.poll()

    @Yielding
    def exception(self) -> BaseException | None:
        """What ended the process; None while it runs and if it ended well (exit code 0).

        The exception that nobody caught in it, whose `__cause__` is the traceback there, as text. Otherwise (it was
        killed, or called `sys.exit` with something else than 0) or if that exception cannot be pickled, a
        `ProcessDiedError`, whose text tells how it ended: `... was killed by SIGKILL: out of memory`. multiprocessing
        has nothing of the kind.
        """
        return what_ended(self)

    @property
    def ident(self) -> int | None:
        """The process id, or None before the start."""
        self._check_closed()
        if self is _current_process:
            return os.getpid()
        return None if self._popen is None else self._popen.pid

    @property
    def pid(self) -> int | None:
        """The process id, or None before the start."""
        return self.ident

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process ends: a pidfd. ValueError before the start."""
        self._check_closed()
        if self._popen is None:
            raise ValueError("process not started")
        fd: int = self._popen.sentinel
        return fd

    # where libraries look that know the classes of multiprocessing; there it is an attribute from the start on
    @property
    def _sentinel(self) -> Any:
        if "_sentinel" in self.__dict__:
            return self.__dict__["_sentinel"]
        if self._popen is None:
            raise AttributeError("the process has not been started, or is closed")
        return self._popen.sentinel

    @_sentinel.setter
    def _sentinel(self, fd: int | None) -> None:
        self.__dict__["_sentinel"] = fd

    @_sentinel.deleter
    def _sentinel(self) -> None:
        self.__dict__.pop("_sentinel", None)

    def __repr__(self) -> str:
        from ._process.display import shown

        return shown(self)

    # --- in the child ---

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """The life of the child, from the moment that it has its Process object. Returns the exit code."""
        of = _others()
        code = 1
        try:
            _become_current(self, parent_sentinel)
            if of.log.logger:
                of.log.info("child process calling self.run()")
            self.run()
            code = 0
        except SystemExit as stop:
            code = _exit_code_of(stop)
        except KeyboardInterrupt as error:
            # Ctrl-C goes to all processes of a terminal, and the traceback that people need is the main process's
            _leave_report(error)
        except BaseException as error:
            from ._process.display import print_exception

            print_exception(self._name)
            _leave_report(error)
        finally:
            threading = sys.modules.get("threading")
            if threading is not None:  # as at the end of any Python program: threads that are not daemonic go on
                threading._shutdown()
            if of.log.logger:
                of.log.info("process exiting with exitcode %d", code)
            of._flush_std_streams()
        return code

    @staticmethod
    def _after_fork() -> None:
        """Makes what a fork copied fit for the child. (A spawned child has nothing of the kind.)"""
        of = _others()
        of.release_signals()  # what their handlers raise ends this process from here on, in its own frames
        of._finalizer_registry.clear()
        of._run_after_forkers()
        of.after_fork()


def _become_current(self: BaseProcess, parent_sentinel: int | None) -> None:
    """Makes this object the current process, and the one that was so until now a thing of the past."""
    global _current_process, _parent_process, _process_counter, _children  # noqa: PLW0603 (what this is about)
    of = _others()
    if method := getattr(self, "_start_method", None):
        of._force_start_method(method)
    _process_counter = itertools.count(1)
    _children = set()
    of._close_stdin()
    before = _current_process
    _current_process = self
    of.describe(self._name)
    of.take_name(self._name)
    _parent_process = _ParentProcess(
        self._parent_name, self._parent_pid or 0, parent_sentinel, self._config.get("parent_start", 0)
    )
    threading = sys.modules.get("threading")
    if threading is not None and hasattr(threading.main_thread(), "_set_native_id"):
        threading.main_thread()._set_native_id()  # Python itself sees to it from 3.14 on
    try:
        self._after_fork()
    finally:
        del before  # only now: what the callbacks look at may hang on it


def what_ended(self: BaseProcess) -> BaseException | None:
    """The `exception` of a process, whatever a derived class has under that name."""
    self._check_closed()
    return None if self._popen is None else self._popen.exception(self)


def _popen_of(self: BaseProcess) -> Popen:
    self._check_closed()
    if self._popen is not None:
        return self._popen
    raise AttributeError("the process has not been started")


def _popen_to_join(self: BaseProcess) -> Popen:
    self._check_closed()
    assert self._parent_pid == os.getpid(), "can only join a child process"
    assert self._popen is not None, "can only join a started process"
    return self._popen


class AuthenticationString(bytes):
    """A key, as bytes that refuse to be pickled except on the way into a child: so it cannot be sent by accident."""

    def __reduce__(self) -> tuple[type[AuthenticationString], tuple[bytes]]:
        from .context import get_spawning_popen

        if get_spawning_popen() is None:
            raise TypeError(
                "Pickling an AuthenticationString object is disallowed for security reasons, but for a start"
            )
        return AuthenticationString, (bytes(self),)


class _ParentProcess(BaseProcess):
    """The parent, as its child sees it. Held by a pidfd once somebody asks for more than its name and pid."""

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
            self._sentinel = _open_sentinel(self._pid, self._start_time)
        return self._sentinel

    def is_alive(self) -> bool:
        """Whether the parent has not ended yet."""
        return not _ended(self.sentinel, 0.0)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the parent has ended, or for so many seconds."""
        _ended(self.sentinel, timeout)


class _MainProcess(BaseProcess):
    """The process in which the program began. All other processes inherit its `_config`."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False
        # semprefix: libraries that make POSIX semaphores of their own take it from here
        self._config = {"authkey": AuthenticationString(_key_of_this_process()), "semprefix": "/mp"}

    def close(self) -> None:
        """Does nothing: this process is running, and its object holds nothing."""


def _key_of_this_process() -> bytes:
    """The key that this process has for the standard library's package, if that is loaded: a process has one key.

    So a proxy finds its server from a child that another library has started, and to which it has given the key.
    """
    theirs = sys.modules.get("multiprocessing.process")
    if theirs is None or theirs.__name__ == __name__:
        return os.urandom(32)
    return bytes(theirs.current_process().authkey)


def _exit_code_of(stop: SystemExit) -> int:
    """The exit code that sys.exit() asked for. What is no number is printed, and means 1, as in any Python program."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    if sys.stderr is not None:
        sys.stderr.write(f"{stop.code}\n")
    return 1


def status_of(code: int, bits: int, beyond: int) -> int:
    """The exit status for a code: its low byte, or another one if it is more than a signed number of so many bits.

    By which function of C Python exits, and so how many bits, depends on the start method.
    """
    return code & 0xFF if -(1 << bits) <= code < 1 << bits else beyond


def _leave_report(error: BaseException) -> None:
    """Leaves an exception that ends a child for its parent. `popen_fork` and `spawn` put the function in this place."""


def __getattr__(name: str) -> Any:
    if name == "_exitcode_to_name":  # by libraries; here nothing needs it
        from ._process.display import names_of_exit_codes

        return globals().setdefault(name, names_of_exit_codes())
    return lending(__name__)(name)


class _Farewell:
    """`util._exit_function` at exit, without importing that module before. It equals it, for those who unregister that.

    All modules that make something which has to end register it when they are imported, as they do in multiprocessing.
    So what a library registers after importing one runs before the children are joined: it may have to stop them.
    """

    def __call__(self) -> None:
        if _children or f"{__package__}.util" in sys.modules:
            from .util import _exit_function

            _exit_function()

    def __eq__(self, other: object) -> bool:
        util = sys.modules.get(f"{__package__}.util")
        return other is self or (util is not None and other is util._exit_function)

    def __hash__(self) -> int:
        return hash(_Farewell)


def _register_farewell() -> None:
    """Has this process take its farewell at exit, after what is registered from now on. Again: nothing."""
    global _farewell  # noqa: PLW0603 (of this process)
    if _farewell is None:
        _farewell = _Farewell()
        atexit.register(_farewell)


def _others() -> Any:
    global _in_child  # noqa: PLW0603 (of this process)
    if _in_child is None:
        from ._process import bootstrap as found

        _in_child = found
    return _in_child


def _own_start_time() -> int:
    """When this process started. With the pid it tells a child whether its parent is still the same process."""
    global _start_time_of  # noqa: PLW0603 (of this process)
    pid = os.getpid()
    if _start_time_of[0] != pid:
        from . import _core

        _start_time_of = (pid, _core.start_time(pid))
    return _start_time_of[1]


def _ended(sentinel: int, timeout: float | None) -> bool:
    from ._core import _poll

    return bool(_poll([(sentinel, 1)], None if timeout is None else max(0.0, timeout)))


def _open_sentinel(pid: int, start_time: int) -> int:
    """A descriptor that is readable when that process has ended; at once if the pid is another's by now."""
    from . import _core

    return _core.open_sentinel(pid, start_time)


# the module of that name; `popen_fork` has put it here before anything is forked
_in_child: Any = None
_farewell: _Farewell | None = None
_start_time_of = (0, 0)
# names this run of the main module: what is forked has the same, and so the same things under its names
_program = os.urandom(16)
_parent_process: BaseProcess | None = None
_current_process: BaseProcess = _MainProcess()
_process_counter = itertools.count(1)
_children: set[BaseProcess] = set()

# every process object there is, for tests that look for those left behind
_dangling: WeakSet[BaseProcess] = WeakSet()
