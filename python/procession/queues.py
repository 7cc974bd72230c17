"""Queues that processes share."""

from __future__ import annotations

from copyreg import __newobj__  # type: ignore[attr-defined]
from queue import Empty, Full
from types import GenericAlias

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .context import BaseContext

__all__ = ["Empty", "Full", "Queue", "SimpleQueue"]


class Queue(_core.Queue):
    """A first-in first-out queue that processes share.

    `put` has delivered the object when it returns: it lies in family memory, whatever becomes of the process that put
    it there. `get` takes one out. A process that is killed in the midst of either leaves the queue usable, and loses
    nothing but what it had taken. It can be sent to another process at any time and in any way.

    Differences from multiprocessing: there is no thread that writes to a pipe. So an object is pickled by `put`, which
    raises what is wrong with it; a process may be joined before the queue was emptied; `qsize`, `empty` and `full` are
    exact. A class that overrides `_on_queue_feeder_error` has that called for what cannot be pickled, by `put`.
    """

    _ignore_epipe = False  # concurrent.futures sets it; there is no pipe

    def __init__(self, maxsize: int = 0, *, ctx: BaseContext | None = None) -> None:
        """maxsize: how many items there may be before `put` waits; 0 or less: as many as there is memory for.

        ctx: of no consequence, contexts mix.
        """
        self._create(max(0, maxsize))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_on_queue_feeder_error" in cls.__dict__ and "put" not in cls.__dict__:
            cls.put = _put_or_report  # type: ignore[method-assign, assignment]
            cls.put_nowait = _put_nowait_or_report  # type: ignore[method-assign, assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.__getstate__()

    # a tuple, since derived classes are known to append to it

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.handle,)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._attach(state[0])

    def close(self) -> None:
        """Lets go of the queue in this process: `put` and `get` raise ValueError from then on. Others go on with it."""
        super().close()
        if not super().empty():
            # what multiprocessing does for a queue that was in use; one that never was is still found empty
            self.empty = _refuse  # type: ignore[method-assign]

    def join_thread(self) -> None:
        """Does nothing: what was put is delivered. AssertionError: the queue was not closed."""
        assert self.closed, f"{self!r} is not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: the process never waits for a thread of the queue when it exits."""

    def _terminate_broken(self) -> None:
        self.close()

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: object) -> None:
        """For derived classes to override: what `put` does about an object that cannot be pickled, instead of raising.

        This one, for them to call, prints the exception.
        """
        import traceback

        traceback.print_exception(e)

    __class_getitem__: Any = classmethod(GenericAlias)


def _put_or_report(self: Queue, obj: Any, block: bool = True, timeout: float | None = None) -> None:
    try:
        _core.Queue.put(self, obj, block, timeout)
    except (Full, MemoryError):
        raise
    except Exception as error:
        if self.closed:
            raise
        self._on_queue_feeder_error(error, obj)


def _put_nowait_or_report(self: Queue, obj: Any) -> None:
    self.put(obj, False)


class SimpleQueue(_core.Queue):
    """A queue with fewer methods: `put`, `get`, `empty`, `close`. What `Queue` says of itself holds here too."""

    def __init__(self, *, ctx: BaseContext | None = None) -> None:
        """ctx: of no consequence, contexts mix."""
        self._create(0)

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.__getstate__()

    def __getstate__(self) -> tuple[Any, ...]:
        return (self.handle,)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._attach(state[0])

    def close(self) -> None:
        """Lets go of the queue in this process: its methods raise OSError from then on."""
        super().close()
        # over the methods of the class, which need no check of their own then
        self.put = self.get = self.empty = _refuse  # type: ignore[method-assign]

    __class_getitem__: Any = classmethod(GenericAlias)


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise OSError("the queue is closed")
