"""Logging, finalizers, what follows a fork and what precedes the end: what the other modules have in common."""

from __future__ import annotations

import itertools
import os
import sys
import weakref
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
    _function.__module__ = __name__  # where it is found, and what pickles call it

_args_from_interpreter_flags = _interpreter_flags.interpreter_options


def __getattr__(name: str) -> Any:
    if name == "_logger":
        return _log.logger
    if name == "_log_to_stderr":
        return _log.to_stderr
    return _lend(name)


_lend = process.lending(__name__)


# --- the end of a process ---

_exiting = False


def is_exiting() -> bool:
    """Whether this process has begun to shut down."""
    return bool(_exiting)


def _exit_function(
    info: Callable[..., None] = info,
    debug: Callable[..., None] = debug,
    run_finalizers: Callable[..., None] = _run_finalizers,
    active_children: Callable[[], list[process.BaseProcess]] = process.active_children,
) -> None:
    """The farewell of a process, at exit: finalizers, then its children (daemonic ones are terminated, all are joined).

    Its helpers are bound as defaults because tests of other packages are known to take modules out of `sys.modules`.
    """
    global _exiting  # noqa: PLW0603 (of this process)
    if _exiting:
        return
    _exiting = True
    if not (_finalizer_registry or process._children or _log.logger):
        return  # as most children end
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

# (number, id of the object, function) -> the object
_afterfork_registry: weakref.WeakValueDictionary[tuple[int, int, Callable[[Any], object]], Any]
_afterfork_registry = weakref.WeakValueDictionary()
_afterfork_counter = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], object]) -> None:
    """Has func(obj) called in each child that is forked, by "fork" or "forkserver", while obj lives.

    In the order of registration; what raises is logged, and the next one is called. (For `os.fork` itself there is
    `os.register_at_fork`.)
    """
    _afterfork_registry[next(_afterfork_counter), id(obj), func] = obj


def _run_after_forkers() -> None:
    if not _afterfork_registry.data:  # type: ignore[attr-defined]  # len() of it is a function in Python
        return
    for (_, _, func), obj in sorted(_afterfork_registry.items(), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as error:
            info("a function registered with register_after_fork raised %s", error)


class ForkAwareThreadLock:
    """A lock between the threads of a process that is free in a forked child, whoever held it in the parent.

    In multiprocessing that holds for the children that it forks itself; here for those of `os.fork()` too.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        if _fork_aware_locks is None:
            _look_after_locks()
        _fork_aware_locks.add(self)  # type: ignore[union-attr]

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self._lock.__exit__(*exc)


_fork_aware_locks: weakref.WeakSet[ForkAwareThreadLock] | None = None


def _look_after_locks() -> None:
    global _fork_aware_locks  # noqa: PLW0603 (of this process; most have no such lock, and their forks no such work)
    _fork_aware_locks = weakref.WeakSet()
    os.register_at_fork(after_in_child=_free_locks)


def _free_locks() -> None:
    for lock in _fork_aware_locks or ():
        lock._at_fork_reinit()


class ForkAwareLocal(_local):
    """Thread-local data that a forked child begins without. Pickles as an empty one."""

    def __init__(self) -> None:
        register_after_fork(self, lambda local: local.__dict__.clear())

    def __reduce__(self) -> tuple[type[ForkAwareLocal], tuple[()]]:
        return type(self), ()


# --- standard streams and descriptors ---


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (contextlib takes a millisecond to import, in every child)
            stream.flush()
        except (AttributeError, ValueError):  # None, or closed
            pass


class _EmptyInput:
    """An empty `sys.stdin`, which is opened when somebody uses it: few do, and it takes longer than most of a start."""

    def _opened(self) -> Any:
        global _replaced_stdin  # noqa: PLW0603 (of this process)
        # `input()` is at work with this very object, without a reference of its own
        _replaced_stdin = self
        # closefd=False as with the real one, or the interpreter would warn at its end that nobody has closed it
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
    """Gives this process an empty `sys.stdin`: a terminal cannot be shared. Descriptor 0 stays what it is."""
    if sys.stdin is not None:
        sys.stdin = _EmptyInput()


def close_fds(*fds: int) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Closes all descriptors of this process but these."""
    limit = os.sysconf("SC_OPEN_MAX")
    first = 0
    for fd in sorted(set(fds)):
        assert fd < limit, f"there is no descriptor {fd}"
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, limit)


def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Iterable[int]) -> int:
    """Runs a program with exactly these descriptors, besides 0 to 2, under the numbers that they have. Returns the pid.

    The caller waits for the process. OSError: it could not be started.
    """
    from ._process.visible_start import started

    return started(path, args, passfds)


_spawnv_passfds = spawnv_passfds  # by which one sees whether somebody has replaced it


# --- sockets and folders ---

abstract_sockets_supported = True  # as everywhere on Linux


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Whether this is the address of an abstract Unix socket, which has no file."""
    if not address:
        return False
    if isinstance(address, (str, bytes)):
        return address[0] in (0, "\0")
    raise TypeError(f"the address of a Unix socket is str or bytes, not {type(address).__name__}")


def get_temp_dir() -> str:
    """A temporary folder of this process and its descendants, which is removed when this process ends.

    Nobody but this user may enter it. The path of a socket in it is short enough for the system.
    """
    config = process.current_process()._config
    folder: str | None = config.get("tempdir")
    # one that was inherited may be gone, or not for the user that this process has become
    if folder is None or not os.access(folder, os.W_OK | os.X_OK):
        folder = _new_folder()
        info("made the temporary folder %s", folder)
        # late, since what lies there is removed by finalizers of its own
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
    """What `tempfile.gettempdir` says, without the time that importing it takes where the answer is plain."""
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
    except FileNotFoundError:  # somebody else has removed it
        pass


# --- tests ---


def _cleanup_tests() -> None:
    """Stops what this package keeps running behind the scenes: for the end of a test module."""
    from test import support  # type: ignore[import-not-found]

    process._cleanup()
    for module, attribute in (("forkserver", "_forkserver"), ("resource_tracker", "_resource_tracker")):
        running = sys.modules.get(f"{__package__}.{module}")
        if running is not None and hasattr(getattr(running, attribute), "_stop"):
            getattr(running, attribute)._stop()
    _finalize._run_finalizers()
    support.gc_collect()
    support.reap_children()
