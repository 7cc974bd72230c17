"""Process-based parallelism with the interface of `multiprocessing`, on a Rust runtime.

    import procession as mp

All names of `multiprocessing` are here with the same meaning. In addition:

OwnerDiedError   the holder of a lock died; raised instead of waiting for ever
WorkerDiedError  a worker of a pool died with a task; also TaskTimeoutError, PoolBrokenError
ProcessDiedError the value of `process.exception` if no exception ended the process
set_forkserver_spares(n)   sets how many children the fork server keeps ready
SharedDict       a dictionary that processes share, without a server
ndarray, asarray make numpy arrays in shared memory, which are sent as handles
inspect(pid)     looks into a running or hung program: who waits for whom
cluster(address) connects to a Dask cluster, whose nodes run the calls of its pools; NodeDiedError: one died;
                 MessageLostError: a big message of a queue has died with its node
install()        makes `import multiprocessing` mean this package from now on
set_stall_report(seconds) prints why a process waits when it waits too long
report_progress(done, total) moves a bar of its own for a task of a pool
move(obj)        sends an array without copying it, and gives it up
task_rng()       numpy's Generator for a task of a pool with a seed
worker_id()      the number of a pool's worker; worker_state() is a dictionary of that worker

`python -m procession script.py` runs a program that was written for `multiprocessing`.

native           whether this package uses its extension, which needs Linux. Without it these are the objects of
                 multiprocessing, with the pools and options of this package as far as plain Python can give them
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False


def _unusable() -> tuple[str, bool] | None:
    """Returns why the extension is not used, and whether the program can know that. None: it is used.

    PROCESSION_FALLBACK=1 says that it is not to be used, and 0 that a program that cannot use it is to fail.
    """
    import os

    asked = os.environ.get("PROCESSION_FALLBACK", "")
    if asked not in ("", "0"):
        return f"PROCESSION_FALLBACK is {asked}", True
    if not asked:
        if not sys.platform.startswith("linux"):
            return f"this is {sys.platform}, and it needs Linux", True
        release = os.uname().release
        major, _, rest = release.partition(".")
        minor = rest.partition(".")[0].partition("-")[0]
        if major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) < (5, 11):
            return f"the kernel is {release}, and it needs Linux 5.11 or later", False
    try:
        from ._core import __version__  # noqa: F401
    except ModuleNotFoundError:
        if asked:
            raise
        return "this installation has none, as there is no wheel for this Python or this processor", False
    return None


_without = _unusable()
native: bool = _without is None
if _without is not None:
    from . import _plain

    _plain.begin(_without[0], expected=_without[1])

from . import _alias, _errors, context  # noqa: E402 (which modules these are is known only now)
from ._alias import install  # noqa: E402

if native or TYPE_CHECKING:
    from ._core import __version__ as __version__

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Final

    from . import inspect as inspect
    from ._cluster.context import cluster as cluster
    from ._memory.arrays import asarray as asarray
    from ._memory.arrays import ndarray as ndarray
    from ._memory.shared_dict import SharedDict as SharedDict
    from ._pool.errors import NodeDiedError as NodeDiedError
    from ._pool.errors import PoolBrokenError as PoolBrokenError
    from ._pool.errors import SoftTimeoutError as SoftTimeoutError
    from ._pool.errors import TaskTimeoutError as TaskTimeoutError
    from ._pool.errors import WorkerDiedError as WorkerDiedError
    from ._pool.reports import report_progress as report_progress
    from ._pool.seeding import task_rng as task_rng
    from ._pool.worker import worker_id as worker_id
    from ._pool.worker import worker_state as worker_state
    from ._serialize.move import move as move
    from .inspect import set_stall_report as set_stall_report

    # For type checkers they are the classes, as in typeshed, so that `procession.Queue[int]` is a type.
    from .queues import JoinableQueue as JoinableQueue
    from .queues import Queue as Queue
    from .queues import SimpleQueue as SimpleQueue

    reducer: Any
else:
    JoinableQueue = context._default_context.JoinableQueue
    Queue = context._default_context.Queue
    SimpleQueue = context._default_context.SimpleQueue

del TYPE_CHECKING  # not a name of the package

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "MessageLostError",
    "NodeDiedError",
    "OwnerDiedError",
    "Pipe",
    "Pool",
    "PoolBrokenError",
    "Process",
    "ProcessDiedError",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SharedDict",
    "SimpleQueue",
    "SoftTimeoutError",
    "TaskTimeoutError",
    "TimeoutError",
    "Value",
    "WorkerDiedError",
    "active_children",
    "allow_connection_pickling",
    "asarray",
    "cluster",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "inspect",
    "install",
    "log_to_stderr",
    "move",
    "native",
    "ndarray",
    "parent_process",
    "reducer",
    "report_progress",
    "set_executable",
    "set_forkserver_preload",
    "set_forkserver_spares",
    "set_stall_report",
    "set_start_method",
    "task_rng",
    "worker_id",
    "worker_state",
]

_default = context._default_context

AuthenticationError = context.AuthenticationError
BufferTooShort = context.BufferTooShort
MessageLostError = _errors.MessageLostError
OwnerDiedError = _errors.OwnerDiedError
ProcessDiedError = _errors.ProcessDiedError
ProcessError = context.ProcessError
TimeoutError = context.TimeoutError

Process = context.Process
active_children: Final = _default.active_children
current_process: Final = _default.current_process
parent_process: Final = _default.parent_process

Array: Final = _default.Array
Barrier: Final = _default.Barrier
BoundedSemaphore: Final = _default.BoundedSemaphore
Condition: Final = _default.Condition
Event: Final = _default.Event
Lock: Final = _default.Lock
Manager: Final = _default.Manager
Pipe: Final = _default.Pipe
Pool: Final = _default.Pool
RLock: Final = _default.RLock
RawArray: Final = _default.RawArray
RawValue: Final = _default.RawValue
Semaphore: Final = _default.Semaphore
Value: Final = _default.Value

allow_connection_pickling: Final = _default.allow_connection_pickling
cpu_count: Final = _default.cpu_count
freeze_support: Final = _default.freeze_support
get_all_start_methods: Final = _default.get_all_start_methods
get_context: Final = _default.get_context
get_logger: Final = _default.get_logger
get_start_method: Final = _default.get_start_method
log_to_stderr: Final = _default.log_to_stderr
set_executable: Final = _default.set_executable
set_forkserver_preload: Final = _default.set_forkserver_preload
set_forkserver_spares: Final = _default.set_forkserver_spares
set_start_method: Final = _default.set_start_method

SUBDEBUG = 5
SUBWARNING = 25

_alias.share_key()

# The name under which children import the main module. A spawned child puts its own module here.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


# Names that most programs do not use, or that need numpy, with the modules that have them.
_LATE = {
    "PoolBrokenError": "_pool.errors",
    "NodeDiedError": "_pool.errors",
    "SharedDict": "_memory.shared_dict",
    "SoftTimeoutError": "_pool.errors",
    "TaskTimeoutError": "_pool.errors",
    "WorkerDiedError": "_pool.errors",
    "asarray": "_memory.arrays",
    "cluster": "_cluster.context",
    "move": "_serialize.move",
    "ndarray": "_memory.arrays",
    "report_progress": "_pool.reports",
    "set_stall_report": "inspect",
    "task_rng": "_pool.seeding",
    "worker_id": "_pool.worker",
    "worker_state": "_pool.worker",
}


if "PROCESSION_STALL" in os.environ and native:
    from .inspect import _set_from_environment

    _set_from_environment()
del os  # not a name of the package


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, "inspect", "reducer"})


def __getattr__(name: str) -> object:
    if name == "__version__":  # without the extension, which has it
        from ._core import __version__

        return __version__
    if name == "reducer":  # a property of the context, whose module is imported late
        return _default.reducer
    if name in _LATE:
        found = getattr(_imported(_LATE[name]), name)
        globals()[name] = found
        return found
    if name == "inspect" or name in _alias.INTERFACE:
        # `inspect` is a module that can be called. The others are as `multiprocessing.util` and its kind: attributes
        # once another module has imported them
        return _imported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _imported(name: str) -> ModuleType:
    full = f"{__name__}.{name}"
    __import__(full)  # not importlib, which a child may not need otherwise
    return sys.modules[full]


def _for_freezers() -> None:
    """Imports the modules that are imported by name only, for programs that make executables. It is never called."""
    from . import futures, heap, managers, pool, rust, sharedctypes  # noqa: F401
    from ._cluster import context, engine, node, supervisor, whole_program  # noqa: F401
    from ._memory import arrays, shared_dict  # noqa: F401
    from ._pool import errors, reports, seeding, worker  # noqa: F401
    from ._serialize import explain, move  # noqa: F401
