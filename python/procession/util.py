"""Common parts of the other modules: logging, finalizers, functions to call after a fork and before the end."""

from __future__ import annotations

import itertools
import os
import sys
from _thread import _local, allocate_lock

from . import process
from ._process import finalize as _finalize
from ._process import interpreter_flags as _interpreter_flags
from ._process import log as _log
from ._process.finalize import Finalize, _finalizer_counter, _finalizer_registry, _run_finalizers
from ._process.log import (
    DEBUG,
    DEFAULT_LOGGING_FORMAT,
    INFO,
    LOGGER_NAME,
    NOTSET,
    SUBDEBUG,
    SUBWARNING,
    WARNING,
    debug,
    get_logger,
    info,
    log_to_stderr,
    sub_debug,
    sub_warning,
    warn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any
    from weakref import WeakSet

__all__ = [
    "DEBUG",
    "DEFAULT_LOGGING_FORMAT",
    "INFO",
    "LOGGER_NAME",
    "NOTSET",
    "SUBDEBUG",
    "SUBWARNING",
    "WARNING",
    "Finalize",
    "ForkAwareLocal",
    "ForkAwareThreadLock",
    "_finalizer_counter",
    "_finalizer_registry",
    "abstract_sockets_supported",
    "close_all_fds_except",
    "close_fds",
    "debug",
    "get_logger",
    "get_temp_dir",
    "info",
    "is_abstract_socket_namespace",
    "is_exiting",
    "log_to_stderr",
    "register_after_fork",
    "spawnv_passfds",
    "sub_debug",
    "sub_warning",
    "warn",
]

for _function in (debug, get_logger, info, log_to_stderr, sub_debug, sub_warning, warn):
    _function.__module__ = __name__  # the public name, which pickles use

_args_from_interpreter_flags = _interpreter_flags.interpreter_options


def __getattr__(name: str) -> Any:
    if name == "_logger":
        return _log.logger
    if name == "_log_to_stderr":
        return _log.to_stderr
    if name == "_afterfork_registry":  # made late: weakref takes half a millisecond to import, in each child
        from weakref import WeakValueDictionary

        return globals().setdefault(name, WeakValueDictionary())
    return _lend(name)


_lend = process.lending(__name__)


# --- the end of a process ---

_exiting = False


def is_exiting() -> bool:
    """Returns whether this process has begun to shut down."""
    return bool(_exiting)


def _exit_function(
    info: Callable[..., None] = info,
    debug: Callable[..., None] = debug,
    run_finalizers: Callable[..., None] = _run_finalizers,
    active_children: Callable[[], list[process.BaseProcess]] = process.active_children,
) -> None:
    """Runs at the exit of a process: calls finalizers, terminates daemonic children, and joins all children.

    The helpers are bound as defaults because tests of some packages remove modules from `sys.modules`.
    """
    global _exiting  # noqa: PLW0603 (of this process)
    if _exiting:
        return
    _exiting = True
    if not (_finalizer_registry or process._children or _log.logger):
        return  # the usual case for a child
    info("process shutting down")
    debug("finalizers with a priority of 0 or more")
    run_finalizers(0)
    for child in active_children():
        if child.daemon and child._popen is not None:
            info("terminating the daemonic process %s", child.name)
            child._popen.terminate()
    for child in active_children():
        info("joining the process %s", child.name)
        child.join()
    debug("the other finalizers")
    run_finalizers()


process._register_farewell()

# --- the beginning of a process ---

# `_afterfork_registry` maps (number, id of the object, function) to the object; `__getattr__` makes it.
_afterfork_counter = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], object]) -> None:
    """Calls func(obj) in each child that is forked, by "fork" or "forkserver", while obj lives.

    The calls have the order of registration. An exception is logged, and the next function is called. (For `os.fork`
    itself use `os.register_at_fork`.)
    """
    __getattr__("_afterfork_registry")[next(_afterfork_counter), id(obj), func] = obj


def _run_after_forkers() -> None:
    registry = globals().get("_afterfork_registry")
    if registry is None or not registry.data:  # its len() is a function in Python, and slower
        return
    for (_, _, func), obj in sorted(registry.items(), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as error:
            info("a function registered with register_after_fork raised %s", error)


class ForkAwareThreadLock:
    """A lock between the threads of a process. It is free in a forked child, also if a thread of the parent held it.

    Difference from multiprocessing: also in children of `os.fork()`, and not only in those that the package forks.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.acquire: Callable[..., bool] = self._lock.acquire
        self.release: Callable[[], None] = self._lock.release
        if _fork_aware_locks is None:
            _look_after_locks()
        _fork_aware_locks.add(self)  # type: ignore[union-attr]

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._lock.__exit__(*exc)


_fork_aware_locks: WeakSet[ForkAwareThreadLock] | None = None


def _look_after_locks() -> None:
    global _fork_aware_locks  # noqa: PLW0603 (made late: few processes have such a lock)
    from weakref import WeakSet

    made: WeakSet[ForkAwareThreadLock] = WeakSet()
    # another thread may be here, too: both use the set of the first
    _fork_aware_locks = globals().setdefault("_first_fork_aware_locks", made)
    if _fork_aware_locks is made:
        os.register_at_fork(after_in_child=_free_locks)


def _free_locks() -> None:
    for lock in _fork_aware_locks or ():
        lock._at_fork_reinit()


class ForkAwareLocal(_local):
    """Thread-local data that is empty in a forked child. It is pickled as empty data."""

    def __init__(self) -> None:
        register_after_fork(self, lambda local: local.__dict__.clear())

    def __reduce__(self) -> tuple[type[ForkAwareLocal], tuple[()]]:
        return type(self), ()


# --- standard streams and descriptors ---


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (importing contextlib takes a millisecond, in each child)
            stream.flush()
        except (AttributeError, ValueError):  # None, or closed
            pass


class _EmptyInput:
    """An empty `sys.stdin`. It opens the file at first use: few programs use it, and it takes most of a start's
    time."""

    def _opened(self) -> Any:
        global _replaced_stdin  # noqa: PLW0603 (of this process)
        # `input()` uses this object without a reference of its own
        _replaced_stdin = self
        # closefd=False as for the real stdin, or the interpreter would warn at its end that the file is still open
        real = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8", closefd=False)
        if sys.stdin is self:
            sys.stdin = real
        self.__dict__["_opened"] = lambda: real
        return real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)

    def __iter__(self) -> Any:
        return iter(self._opened())

    def __next__(self) -> str:
        line: str = next(self._opened())
        return line

    def __enter__(self) -> Any:
        return self._opened().__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._opened().__exit__(*exc)


_replaced_stdin: _EmptyInput | None = None


def _close_stdin() -> None:
    """Gives this process an empty `sys.stdin`, since a terminal cannot be shared. Descriptor 0 is not changed."""
    if sys.stdin is not None:
        sys.stdin = _EmptyInput()


def close_fds(*fds: int) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Closes all descriptors of this process except these."""
    limit = os.sysconf("SC_OPEN_MAX")
    first = 0
    for fd in sorted(set(fds)):
        assert fd < limit, f"there is no descriptor {fd}"
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, limit)


def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Iterable[int]) -> int:
    """Runs a program with exactly the descriptors 0 to 2 and `passfds`, under the numbers that they have here.

    Returns its pid; the caller waits for the process. OSError: it could not be started.
    """
    from ._process.visible_start import started

    return started(path, args, passfds)


_spawnv_passfds = spawnv_passfds  # to see whether a program has replaced it


# --- sockets and folders ---

abstract_sockets_supported = True  # as everywhere on Linux


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Returns whether this is the address of an abstract Unix socket, which has no file."""
    if not address:
        return False
    if isinstance(address, (str, bytes)):
        return address[0] in (0, "\0")
    raise TypeError(f"the address of a Unix socket is str or bytes, not {type(address).__name__}")


def get_temp_dir() -> str:
    """Returns a temporary folder of this process and its descendants. It is removed when this process ends.

    Only this user may enter it. The path of a socket in it is short enough for the system.
    """
    config = process.current_process()._config
    folder: str | None = config.get("tempdir")
    # an inherited folder may have been removed, or belong to another user if this process has changed its user
    if folder is None or not os.access(folder, os.W_OK | os.X_OK):
        folder = _new_folder()
        info("made the temporary folder %s", folder)
        # the last finalizer, since the files in the folder have finalizers of their own
        Finalize(None, _remove_temp_dir, args=(folder,), exitpriority=-100)
        config["tempdir"] = folder
    return folder


def _new_folder() -> str:
    base = _temporary_folder()
    if len(os.fsencode(base)) > 70 and os.access("/tmp", os.W_OK | os.X_OK):
        base = "/tmp"  # the address of a socket has 107 bytes
    while True:
        folder = os.path.join(base, f"pymp-{os.urandom(6).hex()}")
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        return folder


def _temporary_folder() -> str:
    """Returns `tempfile.gettempdir()`, without importing that module if the environment gives the answer."""
    if "tempfile" not in sys.modules:
        named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
        base = os.path.abspath(named[0] if named else "/tmp")
        if os.path.isdir(base) and os.access(base, os.W_OK | os.X_OK):
            return base
    import tempfile

    return tempfile.gettempdir()


def _remove_temp_dir(folder: str) -> None:
    _remove_tree(folder)
    process.current_process()._config["tempdir"] = None


def _remove_tree(folder: str) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(folder)
    except FileNotFoundError:  # another process has removed it
        pass


# --- tests ---


def _cleanup_tests() -> None:
    """Stops the processes that this package keeps in the background, for the end of a test module."""
    from test import support  # type: ignore[import-not-found]

    process._cleanup()
    for module, attribute in (("forkserver", "_forkserver"), ("resource_tracker", "_resource_tracker")):
        running = sys.modules.get(f"{__package__}.{module}")
        if running is not None and hasattr(getattr(running, attribute), "_stop"):
            getattr(running, attribute)._stop()
    _finalize._run_finalizers()
    support.gc_collect()
    support.reap_children()
