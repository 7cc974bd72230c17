"""Contexts: the functions and classes of the package, bound to a start method."""

from __future__ import annotations

import os
import sys
from _thread import _local

from . import _errors, process
from ._errors import ProcessError as ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from logging import Logger
    from typing import Any, Final, Unpack

    from . import pool, queues, synchronize
    from ._context_types import Methods  # pyright: ignore[reportMissingModuleSource]
    from ._pool.option_types import PoolOptions  # pyright: ignore[reportMissingModuleSource]
    from .connection import Connection
    from .managers import SyncManager
    from .popen_fork import Popen
else:
    Methods = object  # these methods have several signatures, for type checkers alone

__all__: list[str] = []  # the package itself has the names that users need

# The first argument of a frozen program's child. The standard library uses another one, so neither takes the other's.
FROZEN_MARK = "--procession-child"


class BufferTooShort(ProcessError):
    """Raised when a message does not fit the given buffer. `args[0]` is the message."""


class TimeoutError(ProcessError):
    """Raised when a time limit has passed. It is not the built-in exception of this name."""


class AuthenticationError(ProcessError):
    """Raised when the other side of a connection does not know the key."""


class BaseContext(Methods):
    """All functions of the package, for one start method. They are the methods of this class."""

    ProcessError = ProcessError
    BufferTooShort = BufferTooShort
    TimeoutError = TimeoutError
    AuthenticationError = AuthenticationError
    OwnerDiedError = _errors.OwnerDiedError
    ProcessDiedError = _errors.ProcessDiedError

    current_process: Final = staticmethod(process.current_process)
    parent_process: Final = staticmethod(process.parent_process)
    active_children: Final = staticmethod(process.active_children)

    Process: type[process.BaseProcess]
    _name: str

    # --- objects that processes share ---

    # The `name` of an object is for people to read: repr(), statistics() and errors show it.

    def Lock(self, *, name: str | None = None, robust: bool = True) -> synchronize.Lock:
        """Makes a lock that processes share. Any process may release it, not only the one that holds it.

        If the holder dies, `acquire` raises `OwnerDiedError` once instead of waiting for ever, unless `robust` is
        false. See `procession.synchronize.Lock`.
        """
        self.get_context()  # fixes the start method; the lock is the same in each
        kind = _module("synchronize").Lock  # (keyword arguments of a class take nearly as long as to make the lock)
        made: synchronize.Lock = kind() if name is None and robust else kind(name=name, robust=robust)
        return made

    def RLock(self, *, name: str | None = None, robust: bool = True) -> synchronize.RLock:
        """Makes a lock that the process and thread that hold it may acquire again.

        If the holder dies, `acquire` raises `OwnerDiedError` once instead of waiting for ever, unless `robust` is
        false. See `procession.synchronize.RLock`.
        """
        self.get_context()
        kind = _module("synchronize").RLock
        made: synchronize.RLock = kind() if name is None and robust else kind(name=name, robust=robust)
        return made

    def Condition(
        self, lock: synchronize.Lock | synchronize.RLock | None = None, *, name: str | None = None
    ) -> synchronize.Condition:
        """Makes a condition variable. See `procession.synchronize.Condition`.

        lock: a `Lock` or `RLock`; None: a new `RLock`.
        """
        self.get_context()
        kind = _module("synchronize").Condition
        made: synchronize.Condition = kind(lock) if name is None else kind(lock, name=name)
        return made

    def Semaphore(self, value: int = 1, *, name: str | None = None) -> synchronize.Semaphore:
        """Makes a semaphore. See `procession.synchronize.Semaphore`.

        value: the first value. ValueError: it is below 0.
        """
        self.get_context()
        kind = _module("synchronize").Semaphore
        made: synchronize.Semaphore = kind(value) if name is None else kind(value, name=name)
        return made

    def BoundedSemaphore(self, value: int = 1, *, name: str | None = None) -> synchronize.BoundedSemaphore:
        """Makes a semaphore that cannot be released beyond its first value. Otherwise as `Semaphore`."""
        self.get_context()
        kind = _module("synchronize").BoundedSemaphore
        made: synchronize.BoundedSemaphore = kind(value) if name is None else kind(value, name=name)
        return made

    def Event(self, *, name: str | None = None) -> synchronize.Event:
        """Makes an event: a flag that processes can wait for. See `procession.synchronize.Event`."""
        self.get_context()
        kind = _module("synchronize").Event
        made: synchronize.Event = kind() if name is None else kind(name=name)
        return made

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> synchronize.Barrier:
        """Makes a barrier, at which processes wait for each other. See `procession.synchronize.Barrier`.

        Args:
            parties: how many processes or threads wait there in each round.
            action: one of them calls it in each round.
            timeout: seconds, for calls of `wait` that give none; None: without limit.
            name: for people to read.
        """
        self.get_context()
        kind, arguments = _module("synchronize").Barrier, (parties, action, timeout)
        made: synchronize.Barrier = kind(*arguments) if name is None else kind(*arguments, name=name)
        return made

    def Queue(self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None) -> queues.Queue[Any]:
        """Makes a first-in first-out queue. See `procession.queues.Queue`.

        Args:
            maxsize: number of items that the queue takes before `put` waits; 0: as many as memory allows.
            maxbytes: number of bytes, also as "64MB", that its items may have together before `put` waits; 0: as many
                as memory allows.
            name: for observers of the running program.
        """
        self.get_context()
        kind = _module("queues").Queue
        plain = name is None and maxbytes == 0
        return kind(maxsize) if plain else kind(maxsize, maxbytes=maxbytes, name=name)  # type: ignore[no-any-return]

    def JoinableQueue(
        self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None
    ) -> queues.JoinableQueue[Any]:
        """Makes a queue with `task_done()` and `join()`. Otherwise as `Queue`."""
        self.get_context()
        made: queues.JoinableQueue[Any] = _module("queues").JoinableQueue(maxsize, maxbytes=maxbytes, name=name)
        return made

    def SimpleQueue(self, *, name: str | None = None) -> queues.SimpleQueue[Any]:
        """Makes a queue with only `put`, `get`, `empty` and `close`."""
        self.get_context()
        kind = _module("queues").SimpleQueue
        made: queues.SimpleQueue[Any] = kind() if name is None else kind(name=name)
        return made

    def Pipe(self, duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:
        """Makes a pair of connected connections. See `procession.connection.Pipe`.

        Args:
            duplex: False: the first one only receives and the second one only sends.
        """
        from .connection import Pipe

        return Pipe(duplex)

    if not TYPE_CHECKING:

        def RawValue(self, typecode_or_type, *args, name=None):
            """Makes a ctypes object in shared memory, without a lock. See `procession.sharedctypes.RawValue`."""
            return _module("sharedctypes").RawValue(typecode_or_type, *args, name=name)

        def RawArray(self, typecode_or_type, size_or_initializer, *, name=None):
            """Makes a ctypes array in shared memory, without a lock. See `procession.sharedctypes.RawArray`."""
            return _module("sharedctypes").RawArray(typecode_or_type, size_or_initializer, name=name)

        def Value(self, typecode_or_type, *args, lock=True, name=None):
            """Makes a ctypes object in shared memory, with a lock. See `procession.sharedctypes.Value`."""
            return _module("sharedctypes").Value(typecode_or_type, *args, lock=lock, ctx=self.get_context(), name=name)

        def Array(self, typecode_or_type, size_or_initializer, *, lock=True, name=None):
            """Makes a ctypes array in shared memory, with a lock. See `procession.sharedctypes.Array`."""
            make = _module("sharedctypes").Array
            return make(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context(), name=name)

    def Manager(self, *, name: str | None = None) -> SyncManager:
        """Starts a server process that holds objects and gives out proxies. See `procession.managers.SyncManager`.

        name: of the server process; None: the name of the class and a number.
        """
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context(), name=name)
        manager.start()
        return manager

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Unpack[PoolOptions],
    ) -> pool.Pool:
        """Makes a pool of worker processes. For the arguments see `procession.pool.Pool`."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, self.get_context(), **options)

    # --- the machine, the program, the log ---

    def cpu_count(self) -> int:
        """Returns how many CPUs this process can keep busy.

        These are the CPUs that it may run on (its affinity mask, `taskset`), or fewer if the quota of its control
        group (the limit of a container, rounded up) is less.

        The option `-X cpu_count=N` and the variable PYTHON_CPU_COUNT override it, on every Python version, and so does
        a program that replaces `os.cpu_count`.

        Difference from multiprocessing: there it is the number of CPUs of the machine.
        """
        from ._process.cpu_count import count

        return count()

    def freeze_support(self) -> None:
        """Runs the child, in an executable that a frozen program has started as a child. Call it first in the main
        module of a program that is frozen. It does not return in a child, and does nothing elsewhere.

        A program that also uses the standard library's multiprocessing calls the function of that package as well.
        """
        if sys.argv[1:2] == [FROZEN_MARK]:
            from .spawn import freeze_support

            freeze_support()

    def get_logger(self) -> Logger:
        """Returns the logger of the package, named "multiprocessing". It has no handler until a program adds one."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> Logger:
        """Makes the logger of the package write to standard error, here and in all later children; returns it."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def allow_connection_pickling(self) -> None:
        """Makes connections and sockets picklable. They are so without this call."""
        _module("connection")

    def set_executable(self, executable: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        """Sets the Python interpreter for children under "spawn" and "forkserver", instead of `sys.executable`."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Sets the modules that the fork server imports when it starts, so that children need not.

        Args:
            module_names: names of modules; `__main__` means the script.
            on_error: what follows if an import fails. "ignore": nothing. "warn": the server issues an ImportWarning.
                "fail": the server ends, and so `start()` raises.
        """
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    def set_forkserver_spares(self, count: int) -> None:
        """Sets how many children the fork server keeps forked in advance, so that `start()` costs a message and no
        fork.

        The server forks them when it has nothing else to do, after the first child was asked for. A server that runs
        already is replaced at the next start.

        Args:
            count: number of children; 2 by default. Each takes about the memory of a child that has just begun.

        Raises:
            ValueError: `count` is below 0.
        """
        from .forkserver import set_forkserver_spares

        set_forkserver_spares(count)

    # --- start methods ---

    if not TYPE_CHECKING:

        def get_context(self, method: str | None = None) -> BaseContext:
            """Returns the context of a start method.

            Args:
                method: "fork", "spawn" or "forkserver"; None: the context in use. "dask": the cluster whose address
                    is the value of PROCESSION_CLUSTER (see `procession.cluster`).

            Raises:
                ValueError: there is no such start method.
            """
            if method is None:
                return self
            if method == "dask":
                from ._cluster.context import dask_context

                return dask_context()
            try:
                return _concrete_contexts[method]
            except KeyError:
                raise ValueError(f"cannot find context for {method!r}: there is no such start method") from None

        def get_start_method(self, allow_none: bool = False) -> str | None:
            """Returns the name of the start method."""
            return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Raises ValueError: the start method of this context is fixed."""
        raise ValueError("cannot set start method of concrete context")

    def __reduce__(self) -> tuple[Any, tuple[str | None]]:
        return _context_of, (None if self is _default_context else self._name,)

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            # so that `isinstance` tells code which asks that this is a context of multiprocessing
            return _also_theirs(type(self))

    @property
    def reducer(self) -> Any:
        """The module that pickles process objects for their children: our `reduction`, or what a program has set."""
        return _get_reducer()

    @reducer.setter
    def reducer(self, reduction: Any) -> None:
        global _reducer  # noqa: PLW0603 (one for all contexts)
        _reducer = reduction


class Process(process.BaseProcess):
    """A process that is started by the method of the default context."""

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        _default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext):
    """The context whose methods are the functions of the package. Its start method may be set, once."""

    Process: type[Process] = Process  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, context: BaseContext | None = None) -> None:
        """Makes a default context that uses `context` until another is chosen; None: the default of this Python."""
        self._default_context = _concrete_contexts[_DEFAULT] if context is None else context
        self._actual_context: BaseContext | None = None

    if not TYPE_CHECKING:

        def get_context(self, method: str | None = None) -> BaseContext:
            """Returns the context of a start method.

            A call without a method fixes the start method: `set_start_method` raises RuntimeError from then on.

            Args:
                method: "fork", "spawn" or "forkserver"; None: the context in use.

            Raises:
                ValueError: there is no such start method.
            """
            if method is not None:
                return super().get_context(method)
            if self._actual_context is None:
                self._actual_context = self._default_context
            return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Sets the start method of this program. Call it once, under `if __name__ == "__main__"`.

        Args:
            method: "fork", "spawn" or "forkserver". None, with `force`: not set any more.
            force: set it even if it was set before.

        Raises:
            RuntimeError: it was set or used before, and `force` is false.
            ValueError: there is no such start method.
        """
        if self._actual_context is not None and not force:
            spawn = sys.modules.get(f"{__package__}.spawn")
            if spawn is not None:
                spawn._check_not_importing_main()
            raise RuntimeError("context has already been set: the start method is set once, or with force=True")
        if method is None and force:
            self._actual_context = None
        else:
            self._actual_context = self.get_context(method)

    if not TYPE_CHECKING:

        def get_start_method(self, allow_none: bool = False) -> str | None:
            """Returns the name of the start method and fixes it. With `allow_none`: None if it is not fixed yet."""
            if allow_none and self._actual_context is None:
                return None
            return self.get_context()._name

    def get_all_start_methods(self) -> list[str]:
        """Returns the names of the start methods, the default one first."""
        default = self._default_context._name
        return [default, *(name for name in _concrete_contexts if name != default)]


class ForkProcess(process.BaseProcess):
    """A process that is a copy of its parent, made by fork."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        global _popen_fork  # noqa: PLW0603 (an import statement touches objects, whose pages the next fork would copy)
        if _popen_fork is None:
            from . import popen_fork

            _popen_fork = popen_fork
        popen: Popen = _popen_fork.Popen(process_obj)
        return popen


class SpawnProcess(process.BaseProcess):
    """A process with a new interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        """Does nothing: the child has copied nothing of its parent."""


class ForkServerProcess(process.BaseProcess):
    """A process that is a copy of the fork server, which is small and has one thread."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Popen:
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext):
    """Children are copies of their parent."""

    _name = "fork"
    Process: type[ForkProcess] = ForkProcess  # pyright: ignore[reportIncompatibleVariableOverride]


class SpawnContext(BaseContext):
    """Children start as new interpreters and import what they need."""

    _name = "spawn"
    Process: type[SpawnProcess] = SpawnProcess  # pyright: ignore[reportIncompatibleVariableOverride]


class ForkServerContext(BaseContext):
    """Children are copies of a server process that has imported what they need."""

    _name = "forkserver"
    Process: type[ForkServerProcess] = ForkServerProcess  # pyright: ignore[reportIncompatibleVariableOverride]


def _relays_of(logs: bool, output: Any) -> Any:
    """Returns what passes on the log records and the output of a process; see `BaseProcess`."""
    from ._pool.process_relays import ProcessRelays

    return ProcessRelays(logs, output)


def _context_of(name: str | None) -> BaseContext:
    return _default_context if name is None else _concrete_contexts[name]


def _also_theirs(kind: type) -> type:
    """Returns a class of that name, which derives from it and, once that is imported, from multiprocessing's own."""
    theirs = sys.modules.get("multiprocessing.context")
    base = getattr(theirs, "BaseContext", None)
    if base is None or base is BaseContext:
        return kind
    made = _made_for_theirs.get((kind, base))
    if made is None:
        made = type(kind.__name__, (kind, base), {"__module__": kind.__module__})
        made = _made_for_theirs.setdefault((kind, base), made)  # another thread may have made one
    return made


_made_for_theirs: dict[tuple[type, type], type] = {}


def _force_start_method(method: str) -> None:
    _default_context._actual_context = _concrete_contexts[method]


def _has_own_reducer() -> bool:
    """Returns whether `_get_reducer` returns the module of this package, without importing it."""
    return _reducer is None or _reducer is sys.modules.get("procession.reduction")


def _get_reducer() -> Any:
    if _reducer is not None:
        return _reducer
    from . import reduction

    return reduction


# --- for which child this thread is pickling ---


# Modules that were imported: an import statement in each call would cost as much as making a lock.
_modules: dict[str, Any] = {}


def _module(name: str) -> Any:
    found = _modules.get(name)
    if found is None:
        full = f"{__package__}.{name}"
        __import__(full)
        found = _modules[name] = sys.modules[full]
    return found


def get_spawning_popen() -> Any:
    """Returns the Popen object of the child for which this thread is pickling; None otherwise."""
    return getattr(_spawning, "popen", None)


def set_spawning_popen(popen: Any) -> None:
    """Stores for which child this thread is pickling; None: for none any more."""
    _spawning.popen = popen


def assert_spawning(obj: object) -> None:
    """Raises RuntimeError unless this thread is pickling for a child. For objects that only a start can hand over."""
    if get_spawning_popen() is None:
        kind = type(obj).__name__
        raise RuntimeError(f"{kind} objects should only be shared between processes through inheritance, at a start")


def __getattr__(name: str) -> Any:
    # modules written for multiprocessing do `from .context import reduction`
    if name == "reduction":
        return _get_reducer()
    return _lend(name)


_lend = process.lending(__name__)


_spawning = _local()
_reducer: Any = None
_popen_fork: Any = None
_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
# the default of multiprocessing on the running Python
_DEFAULT = "forkserver" if sys.version_info >= (3, 14) else "fork"
_default_context = DefaultContext()
