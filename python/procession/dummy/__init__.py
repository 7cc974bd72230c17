"""The interface of the package with threads, for trying a program in one process, or if processes do not help."""

from __future__ import annotations

import array
import sys
import threading
import weakref
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

from .connection import Pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from ..pool import ThreadPool

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "Value",
    "active_children",
    "current_process",
    "freeze_support",
]


class DummyProcess(threading.Thread):
    """A thread with the methods of a process."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(group, target, name, tuple(args), dict(kwargs or {}))
        self._pid = None
        self._children: weakref.WeakKeyDictionary[DummyProcess, None] = weakref.WeakKeyDictionary()
        self._start_called = False
        self._parent = current_process()

    def start(self) -> None:
        """Starts the thread. RuntimeError: the current thread is not the one that has made this object."""
        if self._parent is not current_process():
            raise RuntimeError(f"Parent is {self._parent!r} but current_process is {current_process()!r}")
        self._start_called = True
        children = getattr(self._parent, "_children", None)
        if children is not None:
            children[self] = None
        super().start()

    @property
    def exitcode(self) -> int | None:
        """0 once the thread has ended; None before."""
        return 0 if self._start_called and not self.is_alive() else None


Process = DummyProcess
JoinableQueue = Queue


def current_process() -> Any:
    """Returns the object of the current thread."""
    thread: Any = threading.current_thread()
    if not hasattr(thread, "_children"):
        thread._children = weakref.WeakKeyDictionary()
    return thread


def active_children() -> list[DummyProcess]:
    """Returns the threads that the current one has started and that have not ended."""
    children = current_process()._children
    for child in list(children):
        if not child.is_alive():
            children.pop(child, None)
    return list(children)


def freeze_support() -> None:
    """Does nothing: a thread does not need it."""


class Namespace:
    """An object with any attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(shown)})"


# types of a manager
globals().update(dict=dict, list=list)


def Array(typecode: str, sequence: Sequence[Any], lock: bool = True) -> array.array[Any]:
    """Makes an `array.array`."""
    return array.array(typecode, sequence)


class Value:
    """An object with an attribute `value`."""

    def __init__(self, typecode: str, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    @property
    def value(self) -> Any:
        """The value."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._typecode!r}, {self._value!r})>"


def Manager() -> Any:
    """Returns this module: its objects need no server."""
    return sys.modules[__name__]


def shutdown() -> None:
    """Does nothing: there is no server."""


def Pool(
    processes: int | None = None, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()
) -> ThreadPool:
    """Makes a pool of threads."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)
