"""Queues that processes share.

When `put` returns, the message lies in family memory and stays there if its sender dies. Small trees of built-ins are
written there without pickle. The data of numpy arrays, and of other objects that pickle out of band (PEP 574), is
copied there once, and the object that the receiver gets uses that memory. Processes of all start methods and threads
can share one queue.
"""

from __future__ import annotations

import sys
from _queue import Empty  # the class of `queue`, whose own import takes milliseconds in each child
from time import monotonic
from types import GenericAlias

from . import _core
from ._queue.compat import (
    NO_LOCK,
    Ends,
    Reader,
    Writer,
    find_ends,
    get_from,
    handle_of,
    is_closed,
    put_as_fed,
    put_into,
    take_end,
)
from ._queue.compat import sentinel as _sentinel  # noqa: F401 (for classes that derive from these)
from ._sync.base import SEM_VALUE_MAX
from .process import _register_farewell, lending, yields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from queue import Full
    from typing import Any, NoReturn, TypeVar

    from ._core import Queue as _CoreQueue
    from .context import BaseContext

    T = TypeVar("T")
else:
    # type arguments are for type checkers alone: the bases are those without them
    T, _CoreQueue = None, {None: _core.Queue}

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "ShutDown", "SimpleQueue"]

_register_farewell()

if sys.version_info < (3, 13):

    class ShutDown(Exception):
        """Raised by `put` and `get` if the queue was shut down. On Python 3.13 and later it is `queue.ShutDown`."""

elif TYPE_CHECKING:
    from queue import ShutDown as ShutDown


@yields("handle", "_key", "closed", "maxsize", "maxbytes", "is_shutdown")
class _Watched(_CoreQueue[T]):
    """The attributes of a queue that programs written for queues over pipes use."""

    def fileno(self) -> int:
        """Returns a descriptor that is readable while there are items, for `select`, `connection.wait`, event loops.

        It belongs to the queue and to this process, and stays the same until the queue is closed. It can be readable
        although another process has just taken the item, or died: `get(False)` tells. Only `get` may read from it.

        Raises:
            ValueError: the queue is closed.
            OSError: the process has no free descriptor, or too many processes use this method on the same queue.
        """
        return _core.Queue._watch(self)

    # --- the parts of multiprocessing's queues ---
    #
    # Classes of other libraries (loky) that derive from a queue pickle these and assemble the queue from them again.

    _rlock = _wlock = _sem = NO_LOCK
    _opid = 0  # the process that made it

    # Libraries also wrap the ends (torch, MXNet): `self._reader = Wrapper(self._reader)`. A program that calls `send`
    # or `recv` of a wrapper gets what the wrapper does. A SimpleQueue of multiprocessing calls the `send_bytes` and
    # `recv_bytes` of its ends; a Queue calls those of the ends that it had when it was made or unpickled.

    @property
    def _reader(self) -> Any:
        """The end that programs written for multiprocessing's pipes use to wait for an item, or to take one."""
        return _own_end(self, Reader)

    @_reader.setter
    def _reader(self, end: Any) -> None:
        _take_end(self, Reader, end)

    @property
    def _writer(self) -> Any:
        """The other end, which puts items."""
        return _own_end(self, Writer)

    @_writer.setter
    def _writer(self, end: Any) -> None:
        _take_end(self, Writer, end)

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            # so that `isinstance` tells code which asks that this is a queue of multiprocessing (logging.config)
            return _also_theirs(type(self))

    _procession_put_through_end = put_into
    _procession_get_through_end = get_from

    def _reset(self, after_fork: bool = False) -> None:
        """Uses the current ends: the queue is completely assembled."""
        find_ends(self)

    def __repr__(self) -> str:
        kind = type(self)
        try:
            state = _state_of(self)
        except Exception:  # a queue can be printed in any state
            state = "unknown"
        return f"<{kind.__module__}.{kind.__qualname__} object at {id(self):#x}: {state}>"

    # --- pickling ---

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, (type(self),), self.__getstate__()

    # a tuple: some derived classes append to it

    def __getstate__(self) -> tuple[Any, ...]:
        ends = self.__dict__.get("_own_ends", {})
        if not any(ends.values()):
            return (handle_of(self),)
        return handle_of(self), Ends((ends.get(Reader), ends.get(Writer)))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _core.Queue._attach(self, state[0])
        if len(state) > 1 and type(state[1]) is Ends:
            self.__dict__["_own_ends"] = dict(zip((Reader, Writer), state[1], strict=True))
            find_ends(self)

    # --- waiting ---

    def _poll(self, timeout: float | None = 0.0) -> bool:
        """Waits until there is an item, at most `timeout` seconds; None: without limit. Returns whether there is
        one."""
        found: bool = self._reader.poll(timeout)
        return found


def _also_theirs(kind: type[_Watched[Any]]) -> type:
    """Returns a class that derives from ours and, once that is imported, from multiprocessing's class of that name.

    It does so for our own classes only. A class that derives from ours may have attributes that are changed through
    `__class__`, and need not expect to be derived from.
    """
    if kind.__module__ != __name__:
        return kind
    theirs = sys.modules.get("multiprocessing.queues")
    base = getattr(theirs, kind.__name__, kind)
    if base is kind:
        return kind
    made = _made_for_theirs.get(base)
    if made is None:
        made = type(kind.__name__, (kind, base), {"__module__": __name__})
        made = _made_for_theirs.setdefault(base, made)  # another thread may have made one
    return made


_made_for_theirs: dict[type, type] = {}


def _own_end(queue: _Watched[Any], kind: type[Reader | Writer]) -> Any:
    return queue.__dict__.get("_own_ends", {}).get(kind) or kind(queue)


def _take_end(queue: _Watched[Any], kind: type[Reader | Writer], end: Any) -> None:
    take_end(queue, kind, end)
    if type(end) is kind or not isinstance(queue, Queue):
        find_ends(queue)
    else:
        from .util import register_after_fork

        register_after_fork(queue, _Watched._reset)  # a child uses the ends that the queue has when it is forked


def _bare(kind: type[_Watched[Any]]) -> _Watched[Any]:
    """Makes a queue for unpickling. pickle's own function needs `__class__` and `type` to agree."""
    return kind.__new__(kind)


if TYPE_CHECKING:
    _Base = _Watched
else:
    _Base = {None: _Watched}


class Queue(_Base[T]):
    """A first-in first-out queue that processes share.

    When `put` returns, the object is delivered: it lies in family memory and stays there if the process that put it
    dies. `get` takes one out. If a process is killed during `put` or `get`, the queue stays usable, and at most the
    item that this process was taking is lost. A queue can be sent to another process at any time and in any way.

    Difference from multiprocessing: no thread writes to a pipe. So `put` pickles the object and raises what is wrong
    with it; a process may be joined before the queue was emptied; `qsize`, `empty` and `full` are exact. If a class
    overrides `_on_queue_feeder_error`, `put` calls that for an object that cannot be pickled.

    Example:
        ```python
        import procession as mp

        def work(tasks, results):
            for number in iter(tasks.get, None):
                results.put(number * number)

        if __name__ == "__main__":
            tasks, results = mp.Queue(), mp.Queue()
            worker = mp.Process(target=work, args=(tasks, results))
            worker.start()
            tasks.put_many([2, 3, None])
            print(results.get(), results.get())  # 4 9
            worker.join()
        ```
    """

    _ignore_epipe = False  # concurrent.futures sets it; there is no pipe

    def __init__(
        self, maxsize: int = 0, *, maxbytes: int | str = 0, ctx: BaseContext | None = None, name: str | None = None
    ) -> None:
        """Makes a queue.

        Args:
            maxsize: number of items in the queue at which `put` waits; 0 or less: no limit but memory.
            maxbytes: number of bytes, also as "64MB" or "1GiB", that the items may have together, pickled, buffers
                included; 0 or less: no limit. An item that is bigger than this enters when the queue is empty.
            ctx: ignored; queues work across contexts.
            name: for observers of the running program.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if type(maxsize) is not int:
            from ._arguments import count

            maxsize = count("maxsize", maxsize, None)
        if type(maxbytes) is not int:
            from ._arguments import size

            maxbytes = size("maxbytes", maxbytes)
        _core.Queue._create(self, max(0, maxsize), max(0, maxbytes))
        if name is not None:
            _core.Queue._label(self, str(name))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "_feed"):
            if "_feed" in cls.__dict__:
                type.__setattr__(cls, "put", put_as_fed)
        elif "_on_queue_feeder_error" in cls.__dict__ and "put" not in cls.__dict__:
            type.__setattr__(cls, "put", _put_or_report)
        # Methods that use `put` and `get` in multiprocessing; here only if a class overrides these.
        for method, made_of, instead in _MADE_OF:
            own = getattr(cls, made_of) is not getattr(Queue, made_of)
            if own and getattr(cls, method) is getattr(Queue, method):
                setattr(cls, method, instead)

    @property
    def _maxsize(self) -> int:
        """`maxsize`, for programs written for multiprocessing: a big number if there is no limit."""
        return _core.Queue.maxsize.__get__(self) or SEM_VALUE_MAX

    @_maxsize.setter
    def _maxsize(self, number: int) -> None:
        """Does nothing: the queue has its size."""

    # --- many at once ---

    def put_many(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Puts all items, in order. Items of other processes may come in between. Small ones go in batches, under one
        lock.

        If it raises, the items before are in the queue, and a note of the exception says how many. If the process is
        killed, the first items are in the queue, and the others are not.

        Args:
            items: what to put; it also raises what iterating over it raises.
            block: as for `put`.
            timeout: seconds, for all items together; None: without limit.

        Raises:
            Full, ShutDown: as for `put`.
        """
        _core.Queue._put_many(self, items, block, timeout)

    def get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Waits for the first item, as `get` does, and takes up to `most` items that are there then.

        An item that cannot be unpickled is consumed. If it returns other items, the next call of a get method raises
        the error.

        Raises:
            Empty, ShutDown: as for `get`, if there is no item.
            ValueError: `most` is less than 1.
        """
        if most < 1:
            raise ValueError(f"get_many() takes at least one item, not {most}")
        return _core.Queue._get_many(self, most, block, timeout)

    # --- asyncio ---

    async def put_async(self, obj: T, timeout: float | None = None) -> None:
        """`put` for asyncio: the event loop runs meanwhile, and no thread waits.

        Cancelling ends the wait; the object is not put.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            Full: there was no room in that time. It also raises what `put` raises.
        """
        from queue import Full

        from ._sync.asyncio_wait import attempted

        def attempt() -> bool | None:
            try:
                self.put(obj, False)
            except Full:
                return None
            return True

        if await attempted(self, "room", attempt, timeout) is None:
            raise Full

    async def get_async(self, timeout: float | None = None) -> T:
        """`get` for asyncio: the event loop runs meanwhile, and no thread waits.

        Cancelling ends the wait; no item is taken.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            Empty: there was no item in that time. It also raises what `get` raises.
        """
        from ._sync.asyncio_wait import attempted

        def attempt() -> tuple[T] | None:
            try:
                return (self.get(False),)
            except Empty:
                return None

        got = await attempted(self, "item", attempt, timeout)
        if got is None:
            raise Empty
        return got[0]

    # --- the end ---

    def shutdown(self, immediate: bool = False) -> None:
        """Makes `put` raise `ShutDown` from now on, in all processes, and `get` once the queue is empty.

        Processes that wait in either are woken. As `queue.Queue.shutdown` of Python 3.13; multiprocessing has no such
        method.

        Args:
            immediate: throws the items away now. `JoinableQueue` counts them as done.
        """
        _core.Queue._shut_down(self, immediate)

    def close(self) -> None:
        """Closes the queue in this process: `put` and `get` raise ValueError from then on. Others go on with it."""
        let_go(self)

    def join_thread(self) -> None:
        """Does nothing: all items are delivered. AssertionError: the queue was not closed."""
        assert is_closed(self), f"{self!r} is not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: a process does not wait for a thread of the queue when it exits."""

    def _terminate_broken(self) -> None:
        self.close()

    @staticmethod
    def _on_queue_feeder_error(e: Exception, obj: object) -> None:
        """Handles an object that `put` cannot pickle, in a derived class that overrides this method, instead of
        raising. This implementation, which it may call, prints the exception.
        """
        import traceback

        traceback.print_exception(e)

    __class_getitem__: Any = classmethod(GenericAlias)


def _put_or_report(self: Queue[Any], obj: Any, block: bool = True, timeout: float | None = None) -> None:
    try:
        _core.Queue.put(self, obj, block, timeout)
    except Exception as error:
        from queue import Full

        if isinstance(error, (Full, MemoryError)) or is_closed(self):
            raise
        self._on_queue_feeder_error(error, obj)


def _put_nowait(self: Queue[Any], obj: Any) -> None:
    self.put(obj, False)


def _get_nowait(self: Queue[Any]) -> Any:
    return self.get(False)


def _put_many(self: Queue[Any], items: Iterable[Any], block: bool = True, timeout: float | None = None) -> None:
    end = None if timeout is None else monotonic() + timeout
    done = 0
    try:
        for item in items:
            self.put(item, block, None if end is None else max(0.0, end - monotonic()))
            done += 1
    except Exception as error:
        error.add_note(f"{done} items were put")
        raise


def _get_many(self: Queue[Any], most: int, block: bool = True, timeout: float | None = None) -> list[Any]:
    if most < 1:
        raise ValueError(f"get_many() takes at least one item, not {most}")
    items = [self.get(block, timeout)]
    try:
        while len(items) < most:
            items.append(self.get(False))
    except Empty:
        pass
    except Exception as error:
        if not isinstance(error, _imported("ShutDown")):
            raise
    return items


_MADE_OF = (
    ("put_nowait", "put", _put_nowait),
    ("get_nowait", "get", _get_nowait),
    ("put_many", "put", _put_many),
    ("get_many", "get", _get_many),
)


if TYPE_CHECKING:
    _OfQueue = Queue
else:
    _OfQueue = {None: Queue}


class JoinableQueue(_OfQueue[T]):
    """A queue that counts its unfinished items.

    `put` makes one item unfinished in the same instant in which it delivers it. `task_done` reports one finished.
    `join` waits until all are finished. If a process is killed between `get` and `task_done`, its item stays
    unfinished, as in multiprocessing.
    """

    def task_done(self) -> None:
        """Reports that an item which was taken is finished. ValueError: called more often than items were put."""
        if not _core.Queue._task_done(self):
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Waits until all items that were put are reported finished. Ctrl-C ends the wait."""
        _core.Queue._join(self)


class SimpleQueue(_Base[T]):
    """A queue with fewer methods: `put`, `get`, `empty`, `close`. Otherwise as `Queue`."""

    def __init__(self, *, ctx: BaseContext | None = None, name: str | None = None) -> None:
        """Makes a queue. ctx: ignored; queues work across contexts. name: for observers of the running program."""
        _core.Queue._create(self, 0)
        if name is not None:
            _core.Queue._label(self, str(name))

    def close(self) -> None:
        """Closes the queue in this process: its methods raise OSError from then on."""
        let_go(self)

    __class_getitem__: Any = classmethod(GenericAlias)


def _state_of(queue: _Watched[Any]) -> str:
    if is_closed(queue):
        return "closed"
    count, most = _core.Queue.qsize(queue), _core.Queue.maxsize.__get__(queue)
    items = f"{count} item" if count == 1 else f"{count} items"
    limit = f" of at most {most}" if most else ""
    ending = ", shut down" if _core.Queue.is_shutdown.__get__(queue) else ""
    return f"{items}{limit}{ending}"


def let_go(queue: _Watched[Any]) -> None:
    """Closes a queue in this process, also if a derived class overrides `close`."""
    _core.Queue.close(queue)
    if isinstance(queue, SimpleQueue):
        # These hide the methods of the class, which then need no check.
        queue.put = queue.get = queue.empty = _refuse  # type: ignore[method-assign]
    elif isinstance(queue, Queue) and not _core.Queue.empty(queue):
        # as multiprocessing does for a queue that was in use; a queue that was never used is still found empty
        queue.empty = _refuse  # type: ignore[method-assign]


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise OSError("the queue is closed")


def _imported(name: str) -> type[Exception]:
    """Returns an exception of `queue`, which is imported only when it is asked for."""
    if name not in globals():
        import queue

        globals()[name] = getattr(queue, name)
    found: type[Exception] = globals()[name]
    return found


if not TYPE_CHECKING:
    _lend = lending(__name__)

    def __getattr__(name: str) -> Any:
        return _imported(name) if name in ("Full", "ShutDown") else _lend(name)
