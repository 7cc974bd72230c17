"""Process objects: each runs an activity in a process of its own, as a `threading.Thread` runs one in a thread."""

from __future__ import annotations

import atexit
import itertools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar

    from ._pool.process_relays import ProcessOutput
    from .popen_fork import Popen

    Kind = TypeVar("Kind", bound=type)

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

try:
    ORIGINAL_DIR: str | None = os.path.abspath(os.getcwd())
except OSError:  # the working folder has been removed
    ORIGINAL_DIR = None


def current_process() -> BaseProcess:
    """Returns the Process object of this process. The main process has one too, although no program made it."""
    return _current_process


def parent_process() -> BaseProcess | None:
    """Returns the Process object of the process that started this one; None in the main process.

    It knows its `name` and `pid`. `is_alive()` and `join()` work on it under each start method: under "forkserver" the
    parent is the process that called `start()`, not the server.
    """
    return _parent_process


def active_children() -> list[BaseProcess]:
    """Returns the children of this process that are alive, and joins those that have ended."""
    _cleanup()
    me = os.getpid()  # a child made by os.fork() itself has copies of the objects of its parent's children
    return [child for child in list(_children) if child._parent_pid == me]


def _cleanup() -> None:
    """Forgets the children that have ended."""
    children = list(_children)  # at once: other threads change it (`tuple` would go through it step by step)
    if len(children) > 8:  # one system call looks at all of them
        ended = sys.modules[f"{__package__}._core"].Child.ended
        children = ended([(child, getattr(child._popen, "_child", None)) for child in children])
    for child in children:
        if (popen := child._popen) is not None and popen.poll() is not None:
            _ended(child)
    # the module has no `_forkserver` yet while another thread imports it
    server = getattr(sys.modules.get(f"{__package__}.forkserver"), "_forkserver", None)
    if server is not None:
        server._wait_for_retired()


def _ended(child: BaseProcess) -> None:
    """Forgets a child that has ended."""
    _children.discard(child)
    if child._procession_relays is not None:
        child._procession_relays.finish()


def lending(module: str) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a module, for names that its twin in multiprocessing has because it imports them."""

    def lend(name: str) -> Any:
        if not name.startswith("__"):  # each import statement asks for `__path__`
            from ._process.stdlib_names import find

            return find(module, name)
        raise AttributeError(name)

    return lend


class Yielding:
    """A property that an attribute of the same name in a derived class or in the object replaces.

    multiprocessing's class has no such attribute, so programs may use its name. Our own code does not read it.
    """

    def __init__(self, compute: Callable[[Any], Any], doc: str | None = None) -> None:
        self.compute: Callable[[Any], Any] = compute
        self.__doc__ = doc or compute.__doc__

    def __get__(self, obj: object, kind: type | None = None) -> Any:
        return self if obj is None else self.compute(obj)


def yields(*names: str) -> Callable[[Kind], Kind]:
    """Makes a decorator of classes. It turns the named properties of the class, or of its compiled base, into
    `Yielding` ones."""

    def decorate(kind: Kind) -> Kind:
        for name in names:
            found = next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
            setattr(kind, name, Yielding(found.__get__, found.__doc__))
        return kind

    return decorate


class BaseProcess:
    """An activity in a process of its own. The `Process` class of each context derives from this class.

    Example:
        ```python
        import procession as mp

        def greet(name):
            print("hello", name)

        if __name__ == "__main__":
            child = mp.Process(target=greet, args=("world",))
            child.start()
            child.join()  # prints: hello world
        ```
    """

    _identity: tuple[int, ...]
    _config: dict[str, Any]
    _parent_pid: int | None
    _popen: Popen | None
    _inheriting: bool
    _procession_relays: Any = None  # of log records and output; None: they are the child's own

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:
        """Starts the process. The class of each context overrides it."""
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
        logs: bool = False,
        output: Literal["forward"] | Callable[[str, ProcessOutput], object] | None = None,
    ) -> None:
        """Prepares the process; `start()` starts it. A derived class must call this `__init__` first.

        Under "spawn" and "forkserver" `start()` pickles the object with its arguments. multiprocessing has neither
        `logs` nor `output`.

        Args:
            group: None, always.
            target: what `run()` calls, in the new process, as target(*args, **kwargs).
            name: for people to read; by default the name of the class and a number.
            args: positional arguments of `target`.
            kwargs: keyword arguments of `target`.
            daemon: see the property `daemon`; by default that of the current process.
            logs: whether what it logs goes to the handlers of this process, whose loggers say the levels at the start.
            output: "forward": what it writes to standard output and standard error is printed here, line by line, with
                its name before each. A callable: it is called as callable(line, ProcessOutput) in a thread. None: it
                has the streams of this process. When `join()` returns all was passed on, also of a killed process.
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
        if logs or output is not None:
            from .context import _relays_of

            self._procession_relays = _relays_of(logs, output)
        __getattr__("_dangling").add(self)

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def run(self) -> None:
        """The activity of the process. A derived class may override it instead of giving a target."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Starts the process. Returns once it exists, which is before it runs. Call it once.

        Every error is raised here (an argument that cannot be pickled, a limit on the number of processes), and then
        the object is as it was before.

        Difference from multiprocessing: a daemonic process may have children. They end when it ends, however it ends,
        and so do their own children.

        Raises:
            AssertionError: the process was started before, or the object was made by another process.
        """
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        _cleanup()
        parent = _current_process._config
        if parent.get("daemon") or parent.get("bound"):
            self._config["bound"] = True
        self._config["parent_start"] = _own_start_time()
        relays = self._procession_relays
        if relays is not None:
            relays.prepare(self)
        try:
            self._popen = self._Popen(self)
        except OSError as error:
            from . import _core

            _core.explain_limit(error, f"starting {self._name}", starts=True)
            raise
        finally:
            if relays is not None:
                relays.started(0 if self._popen is None else self._popen.pid)
        # the parent has no further use for them, and they may refer to this object
        del self._target, self._args, self._kwargs
        _children.add(self)

    def terminate(self, *, grace: float | None = None) -> None:
        """Sends SIGTERM. Does nothing if the process has ended. Its children get no signal, but daemonic ones end.

        Args:
            grace: seconds that the process gets to end. After them it is killed. With `grace` this method also joins
                the process. None: returns at once.
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
        """Sends SIGKILL. Does nothing if the process has ended. Its children get no signal, but daemonic ones end."""
        _popen_of(self).kill()

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does: KeyboardInterrupt in the child, unless it has another handler."""
        _popen_of(self).interrupt()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the process has ended. A process that was killed has ended as well: joining it never hangs.

        Args:
            timeout: seconds to wait at most; None: without limit. `exitcode` is None if the process still runs.
        """
        if _popen_to_join(self).wait(timeout) is not None:
            _ended(self)

    def is_alive(self) -> bool:
        """Returns whether the process was started and has not ended yet."""
        self._check_closed()
        if self is _current_process:
            return True
        assert self._parent_pid == os.getpid(), "can only test a child process"
        if self._popen is None:
            return False
        if self._popen.poll() is None:
            return True
        _ended(self)
        return False

    def close(self) -> None:
        """Releases what the object holds, mainly a file descriptor. Most methods raise ValueError from then on.

        Raises:
            ValueError: the process is still running.
        """
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError("Cannot close a process while it is still running. Call join() or terminate() first.")
            self._popen.close()
            self._popen = None
            _ended(self)
        self._closed = True

    @property
    def name(self) -> str:
        """The name of the process, for people to read; errors show it. Several processes may have the same."""
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
        """Whether the parent terminates the process when it exits, instead of joining it. Set it before the start.

        Difference from multiprocessing: if the parent is killed, a daemonic process is killed as well.
        """
        daemonic: bool = self._config.get("daemon", False)
        return daemonic

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> bytes:
        """The key with which connections between processes are authenticated; a child has that of its parent."""
        key: bytes = self._config["authkey"]
        return key

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """The exit code, 0 to 255, or -N if signal N killed the process; None before the start and while it runs.

        255 also means that the exit code cannot be known: of the child of a fork server that was itself killed, and,
        on kernels before 6.15, of a killed child that other code in this process has waited for.
        """
        self._check_closed()
        return None if self._popen is None else self._popen.poll()

    @Yielding
    def exception(self) -> BaseException | None:
        """What ended the process; None while it runs and if it ended well (exit code 0).

        An exception that the process did not catch; its `__cause__` is the traceback there, as text. If the process
        was killed or called `sys.exit` with something else than 0, or if the exception cannot be pickled, a
        `ProcessDiedError`, whose text says how it ended: `... was killed by SIGKILL: out of memory`.

        Difference from multiprocessing: it has no such property.
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
        """A file descriptor (a pidfd) that becomes readable when the process ends.

        Raises:
            ValueError: the process has not been started.
        """
        self._check_closed()
        if self._popen is None:
            raise ValueError("process not started")
        fd: int = self._popen.sentinel
        return fd

    # For libraries that read multiprocessing's attribute of this name, which it has from the beginning.
    @Yielding
    def _sentinel(self) -> Any:
        if self._popen is None:
            raise AttributeError("the process has not been started, or is closed")
        return self._popen.sentinel

    def __repr__(self) -> str:
        from ._process.display import shown

        return shown(self)

    # --- in the child ---

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Runs the child, from the moment when it has its Process object. Returns the exit code."""
        of = _others()
        code = 1
        try:
            _become_current(self, parent_sentinel)
            if of.log.logger:
                of.log.info("child process calling self.run()")
            if self._procession_relays is not None:
                self._procession_relays.install()
            self.run()
            code = 0
        except SystemExit as stop:
            code = of.exit_code_of(stop)
        except KeyboardInterrupt as error:
            # Ctrl-C reaches all processes of a terminal; a user needs the traceback of the main process only
            _leave_report(error)
        except BaseException as error:
            try:
                from ._process.display import print_exception
            except ImportError:  # the process cannot read the package any more: it has changed its user, or its root
                sys.__excepthook__(type(error), error, error.__traceback__)
            else:
                print_exception(self._name)
            _leave_report(error)
        finally:
            threading = sys.modules.get("threading")
            if threading is not None:  # as at the end of each Python program: wait for threads that are not daemonic
                threading._shutdown()
            if of.log.logger:
                of.log.info("process exiting with exitcode %d", code)
            of._flush_std_streams()
        return code

    @staticmethod
    def _after_fork() -> None:
        """Repairs in the child what the fork copied. (A spawned child has copied nothing.)"""
        of = _others()
        of.release_signals()  # what their handlers raise ends this process from here on, in its own frames
        of._finalizer_registry.clear()
        of._run_after_forkers()
        of.after_fork()


def _become_current(self: BaseProcess, parent_sentinel: int | None) -> None:
    """Makes this object the current process of a child, in the place of that of its parent."""
    global _current_process, _parent_process, _process_counter, _children  # noqa: PLW0603 (its purpose)
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
    _parent_process = of._ParentProcess(
        self._parent_name, self._parent_pid or 0, parent_sentinel, self._config.get("parent_start", 0)
    )
    threading = sys.modules.get("threading")
    if threading is not None and hasattr(threading.main_thread(), "_set_native_id"):
        threading.main_thread()._set_native_id()  # from Python 3.14 on Python does it
    try:
        self._after_fork()
    finally:
        del before  # only now: callbacks may use objects that only it refers to


def what_ended(self: BaseProcess) -> BaseException | None:
    """Returns the `exception` of a process, also if a derived class uses that name for something else."""
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
    """A key, as bytes that can be pickled only for a child that is being started, so that nothing else sends it."""

    def __reduce__(self) -> tuple[type[AuthenticationString], tuple[bytes]]:
        from .context import get_spawning_popen

        if get_spawning_popen() is None:
            raise TypeError(
                "Pickling an AuthenticationString object is disallowed for security reasons, except at a start"
            )
        return AuthenticationString, (bytes(self),)


class _MainProcess(BaseProcess):
    """The process in which the program began. All other processes inherit its `_config`."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False
        # semprefix: libraries that make POSIX semaphores of their own read it here
        self._config = {"authkey": AuthenticationString(_key_of_this_process()), "semprefix": "/mp"}

    def close(self) -> None:
        """Does nothing: this process is running, and its object holds no resources."""


def _key_of_this_process() -> bytes:
    """Returns the key that this process has in the standard library's package, if that is loaded; else a new one.

    A process has one key. So a proxy finds its server also in a child that another library has started and given the
    key.
    """
    theirs = sys.modules.get("multiprocessing.process")
    if theirs is None or theirs.__name__ == __name__:
        return os.urandom(32)
    return bytes(theirs.current_process().authkey)


def _leave_report(error: BaseException) -> None:
    """Stores the exception that ends a child, for its parent. `popen_fork` and `spawn` replace this function."""


def __getattr__(name: str) -> Any:
    make: Callable[[], Any]
    if name == "_ParentProcess":
        return _others()._ParentProcess
    if name == "_exitcode_to_name":  # only other libraries need it
        from ._process.display import names_of_exit_codes as make
    elif name == "_dangling":  # all process objects. Many processes make none, and this imports two modules.
        from _weakrefset import WeakSet as make
    else:
        return lending(__name__)(name)
    return globals().setdefault(name, make())


class _Farewell:
    """Calls `util._exit_function` at exit, without importing `util` earlier. It equals that function, so that a program
    can unregister it.

    All modules that make something which has to end register it when they are imported, as in multiprocessing. So what
    a library registers after such an import runs before the children are joined: the library may have to stop them.
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
    """Registers `_Farewell` at exit, once per process, after everything that is registered already."""
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
    """Returns when this process started. With the pid a child can tell whether its parent is still the same process."""
    global _start_time_of  # noqa: PLW0603 (of this process)
    pid = os.getpid()
    if _start_time_of[0] != pid:
        from . import _core

        _start_time_of = (pid, _core.start_time(pid))
    return _start_time_of[1]


_in_child: Any = None  # the module `_process.bootstrap`; `popen_fork` sets it before the first fork
_farewell: _Farewell | None = None
_start_time_of = (0, 0)
# Identifies this run of the main module. Forked processes share it, and the objects under its names.
_program = os.urandom(16)
_parent_process: BaseProcess | None = None
_current_process: BaseProcess = _MainProcess()
_process_counter = itertools.count(1)
_children: set[BaseProcess] = set()
