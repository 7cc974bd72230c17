"""Contexts of multiprocessing, with our keyword parameters, and the module `multiprocessing.context`.

It stands for `procession.context`: names that it does not have are those of multiprocessing's module. The start method
is one for both packages.

A `name` of an object is for the observers of Linux; here it has no effect.
"""

from __future__ import annotations

import multiprocessing.context as _theirs
import sys
from multiprocessing.context import AuthenticationError as AuthenticationError
from multiprocessing.context import BufferTooShort as BufferTooShort
from multiprocessing.context import ProcessError as ProcessError
from multiprocessing.context import TimeoutError as TimeoutError
from typing import Any

from .. import _errors
from . import processes
from .errors import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__: list[str] = []

Process = processes.Process
SpawnProcess = processes.SpawnProcess
if sys.platform != "win32":
    ForkProcess = processes.ForkProcess
    ForkServerProcess = processes.ForkServerProcess


class BaseContext(_theirs.BaseContext):
    """The functions of the package for one start method, as methods."""

    def Lock(self, *, name: str | None = None, robust: bool | None = None) -> Any:
        """Makes a lock. robust: True is an error; on Linux it is the default."""
        _refuse_robust(robust)
        return super().Lock()

    def RLock(self, *, name: str | None = None, robust: bool | None = None) -> Any:
        """Makes a lock that its holder may acquire again. robust: as for `Lock`."""
        _refuse_robust(robust)
        return super().RLock()

    def Condition(self, lock: Any = None, *, name: str | None = None) -> Any:
        """Makes a condition variable."""
        return super().Condition(lock)

    def Semaphore(self, value: int = 1, *, name: str | None = None) -> Any:
        """Makes a semaphore."""
        return super().Semaphore(value)

    def BoundedSemaphore(self, value: int = 1, *, name: str | None = None) -> Any:
        """Makes a semaphore that cannot be released beyond its first value."""
        return super().BoundedSemaphore(value)

    def Event(self, *, name: str | None = None) -> Any:
        """Makes an event."""
        return super().Event()

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> Any:
        """Makes a barrier."""
        return super().Barrier(parties, action, timeout)

    def Queue(self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None) -> Any:
        """Makes a queue. maxbytes: other values than 0 are an error."""
        _refuse_maxbytes(maxbytes)
        return super().Queue(maxsize)

    def JoinableQueue(self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None) -> Any:
        """Makes a queue with `task_done()` and `join()`. maxbytes: as for `Queue`."""
        _refuse_maxbytes(maxbytes)
        return super().JoinableQueue(maxsize)

    def SimpleQueue(self, *, name: str | None = None) -> Any:
        """Makes a queue with only `put`, `get`, `empty` and `close`."""
        return super().SimpleQueue()

    def RawValue(self, typecode_or_type: Any, *args: Any, name: str | None = None) -> Any:
        """Makes a ctypes object in shared memory, without a lock."""
        return super().RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any, *, name: str | None = None) -> Any:
        """Makes a ctypes array in shared memory, without a lock."""
        return super().RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True, name: str | None = None) -> Any:
        """Makes a ctypes object in shared memory, with a lock."""
        return super().Value(typecode_or_type, *args, lock=lock)

    def Array(
        self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, name: str | None = None
    ) -> Any:
        """Makes a ctypes array in shared memory, with a lock."""
        return super().Array(typecode_or_type, size_or_initializer, lock=lock)

    def Manager(self, *, name: str | None = None) -> Any:
        """Starts a server process that holds objects and gives out proxies."""
        return super().Manager()

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Any:
        """Makes a pool of worker processes, with the options of `procession.Pool` on Linux."""
        from ..pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, self.get_context(), **options)

    def _pool_parts(self, pool: Any, given: int | None, asked: Any) -> Any:
        """Makes the engine and the supervisor of a pool with this context."""
        from .supervisor import make_parts

        return make_parts(self, pool, asked)

    def cpu_count(self) -> int:
        """Returns how many CPUs this process may use, as far as the system tells it."""
        from .._process.cpu_count import count

        return count()

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Sets the modules that the fork server imports. on_error: other values than "ignore" are an error."""
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn' or 'fail', not {on_error!r}")
        if on_error != "ignore":
            raise refusal(f"on_error={on_error!r}")
        super().set_forkserver_preload(module_names)

    def set_forkserver_spares(self, count: int) -> None:
        """Checks `count`, and does nothing else: this fork server has no spares."""
        from .._arguments import count as checked

        checked("count", count, 0)

    def get_context(self, method: str | None = None) -> Any:
        """Returns the context of a start method; None: this one. ValueError: there is no such start method."""
        if method is None:
            return self
        if method == "dask":
            raise refusal('get_context("dask")', "distributed.Client")
        found = _concrete_contexts.get(method)
        return super().get_context(method) if found is None else found


for _error in _errors.__all__:
    setattr(BaseContext, _error, getattr(_errors, _error))


class DefaultContext(BaseContext):
    """The context whose methods are the functions of the package. Its start method is that of multiprocessing."""

    Process = processes.Process

    def get_context(self, method: str | None = None) -> Any:
        """Returns the context of a start method; None: of the one in use, which is fixed then."""
        if method is None:
            return _context_of(_theirs._default_context.get_start_method())
        return super().get_context(method)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Sets the start method of this program, also for multiprocessing."""
        _theirs._default_context.set_start_method(method, force)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Returns the name of the start method and fixes it. With `allow_none`: None if it is not fixed yet."""
        return _theirs._default_context.get_start_method(allow_none)

    def get_all_start_methods(self) -> list[str]:
        """Returns the names of the start methods, the default one first."""
        return _theirs._default_context.get_all_start_methods()


class SpawnContext(BaseContext, _theirs.SpawnContext):
    """Children start as new interpreters and import what they need."""

    Process = processes.SpawnProcess


_concrete_contexts: dict[str, BaseContext] = {"spawn": SpawnContext()}

if sys.platform != "win32":

    class ForkContext(BaseContext, _theirs.ForkContext):
        """Children are copies of their parent."""

        Process = processes.ForkProcess

    class ForkServerContext(BaseContext, _theirs.ForkServerContext):
        """Children are copies of a server process that has imported what they need."""

        Process = processes.ForkServerProcess

    _concrete_contexts.update(fork=ForkContext(), forkserver=ForkServerContext())

_default_context = DefaultContext()


def _context_of(name: str | None) -> BaseContext:
    return _default_context if name is None else _concrete_contexts[name]


def _refuse_robust(robust: bool | None) -> None:
    if robust:
        raise refusal("robust=True", "a timeout of acquire")


def _refuse_maxbytes(maxbytes: int | str) -> None:
    from .._arguments import size

    if size("maxbytes", maxbytes):
        raise refusal("maxbytes=", "maxsize=")


def __getattr__(name: str) -> Any:
    return getattr(_theirs, name)
