"""Queues that processes share.

A message lies in family memory from the moment when `put` returns, whatever becomes of its sender. Small trees of
built-ins are written there without pickle; the data of numpy arrays and of whatever else pickles out of band (PEP 574)
is copied there once, and what the receiver gets *is* that memory. All start methods, threads and processes mix.
"""

from __future__ import annotations

import sys
from queue import Empty, Full
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
    from typing import Any, NoReturn

    from .context import BaseContext

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "ShutDown", "SimpleQueue"]

_register_farewell()

try:
    from queue import ShutDown as ShutDown  # type: ignore[attr-defined, unused-ignore]  # since Python 3.13
except ImportError:

    class ShutDown(Exception):  # type: ignore[no-redef, unused-ignore]
        """Raised by `put` and `get` when the queue was shut down, as `queue.ShutDown` is from Python 3.13 on."""


@yields("handle", "_key", "closed", "maxsize", "maxbytes", "is_shutdown")
class _Watched(_core.Queue):
    """The part of a queue that programs written for pipes look for."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are items, for `select`, `connection.wait` and event loops.

        It is this process's, belongs to the queue, and stays the same until the queue is closed. It can be readable
        when another process has just taken the item, or died: `get(False)` tells. Nothing is to be read from it but
        by `get`.

        ValueError: the queue is closed. OSError: no descriptor is left, or too many processes watch the same queue so.
        """
        return _core.Queue._watch(self)

    # --- what it would be made of in multiprocessing ---
    #
    # Derived classes of other libraries (loky's) send these instead of the queue, and put a queue together from them.

    _rlock = _wlock = _sem = NO_LOCK
    _opid = 0  # the process that made it

    # They may be wrapped, too (torch, MXNet): `self._reader = Wrapper(self._reader)`. What a wrapper does in `send` and
    # `recv` is for those who call it. A SimpleQueue of multiprocessing calls its `send_bytes` and `recv_bytes`, a
    # Queue calls those that it had when it was made, or when it came to another process.

    @property
    def _reader(self) -> Any:
        """What programs written for multiprocessing's pipes use to wait for an item, or to take one."""
        return _own_end(self, Reader)

    @_reader.setter
    def _reader(self, end: Any) -> None:
        _take_end(self, Reader, end)

    @property
    def _writer(self) -> Any:
        """The other end."""
        return _own_end(self, Writer)

    @_writer.setter
    def _writer(self, end: Any) -> None:
        _take_end(self, Writer, end)

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            # so that code which asks whether this is a queue of multiprocessing is told that it is (logging.config)
            return _also_theirs(type(self))

    _procession_put_through_end = put_into
    _procession_get_through_end = get_from

    def _reset(self, after_fork: bool = False) -> None:
        """Uses the ends that are there now. A queue that was put together is whole."""
        find_ends(self)

    def __repr__(self) -> str:
        kind = type(self)
        try:
            state = _state_of(self)
        except Exception:  # whatever is wrong with the queue, it can be printed
            state = "unknown"
        return f"<{kind.__module__}.{kind.__qualname__} object at {id(self):#x}: {state}>"

    # --- pickling ---

    def __reduce__(self) -> tuple[Any, ...]:
        return _bare, (type(self),), self.__getstate__()

    # a tuple, since derived classes are known to append to it

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
        """Whether there is an item, waiting up to timeout seconds for one; None: without limit."""
        found: bool = self._reader.poll(timeout)
        return found


def _also_theirs(kind: type[_Watched]) -> type:
    """A class that derives from ours and, once the program has imported that, from multiprocessing's of that name.

    A class that derives from ours stays what it is: it may have attributes that are meant to be changed through
    `__class__`, and it need not expect to be derived from.
    """
    if kind.__module__ != __name__:
        return kind
    theirs = sys.modules.get("multiprocessing.queues")
    base = getattr(theirs, kind.__name__, kind)
    if base is kind:
        return kind
    made = _made_for_theirs.get(base)
    if made is None:
        made = _made_for_theirs[base] = type(kind.__name__, (kind, base), {"__module__": __name__})
    return made


_made_for_theirs: dict[type, type] = {}


def _own_end(queue: _Watched, kind: type[Reader | Writer]) -> Any:
    return queue.__dict__.get("_own_ends", {}).get(kind) or kind(queue)


def _take_end(queue: _Watched, kind: type[Reader | Writer], end: Any) -> None:
    take_end(queue, kind, end)
    if type(end) is kind or not isinstance(queue, Queue):
        find_ends(queue)
    else:
        from .util import register_after_fork

        register_after_fork(queue, _Watched._reset)  # a child does not have what this process had from the start


def _bare(kind: type[_Watched]) -> _Watched:
    """For pickle, whose own function for this wants objects to say of `__class__` what `type` says."""
    return kind.__new__(kind)


class Queue(_Watched):
    """A first-in first-out queue that processes share.

    `put` has delivered the object when it returns: it lies in family memory, whatever becomes of the process that put
    it there. `get` takes one out. A process that is killed in the midst of either leaves the queue usable, and loses
    nothing but what it had taken. It can be sent to another process at any time and in any way.

    Differences from multiprocessing: there is no thread that writes to a pipe. So an object is pickled by `put`, which
    raises what is wrong with it; a process may be joined before the queue was emptied; `qsize`, `empty` and `full` are
    exact. A class that overrides `_on_queue_feeder_error` has that called for what cannot be pickled, by `put`.
    """

    _ignore_epipe = False  # concurrent.futures sets it; there is no pipe

    def __init__(self, maxsize: int = 0, *, maxbytes: int | str = 0, ctx: BaseContext | None = None) -> None:
        """maxsize: how many items there may be before `put` waits; 0 or less: as many as there is memory for.

        maxbytes: how many bytes they may have together, pickled, buffers included, also as "64MB" or "1GiB"; 0 or less:
        any number. An item that is bigger by itself is let in when the queue is empty. ctx: of no consequence, contexts
        mix. TypeError, ValueError: an argument is none of the above.
        """
        if type(maxsize) is not int:
            from ._arguments import count

            maxsize = count("maxsize", maxsize, None)
        if type(maxbytes) is not int:
            from ._arguments import size

            maxbytes = size("maxbytes", maxbytes)
        _core.Queue._create(self, max(0, maxsize), max(0, maxbytes))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "_feed"):
            if "_feed" in cls.__dict__:
                cls.put = put_as_fed  # type: ignore[method-assign, assignment]
        elif "_on_queue_feeder_error" in cls.__dict__ and "put" not in cls.__dict__:
            cls.put = _put_or_report  # type: ignore[method-assign, assignment]
        # what is made of `put` and `get` in multiprocessing, and here only where a class has some of its own
        for method, made_of, instead in _MADE_OF:
            own = getattr(cls, made_of) is not getattr(Queue, made_of)
            if own and getattr(cls, method) is getattr(Queue, method):
                setattr(cls, method, instead)

    @property
    def _maxsize(self) -> int:
        """`maxsize`, where programs written for multiprocessing look for it: a big number if there is no limit."""
        return _core.Queue.maxsize.__get__(self) or SEM_VALUE_MAX

    @_maxsize.setter
    def _maxsize(self, number: int) -> None:
        """It is the queue's already."""

    # --- many at once ---

    def put_many(self, items: Iterable[Any], block: bool = True, timeout: float | None = None) -> None:
        """Puts all items, in order; others' items may come in between. Small ones go in batches, under one lock.

        block, timeout: as for `put`, for all of them together. Whatever is raised (`Full`, `ShutDown`, what pickling
        one of them or iterating raises), those before are in the queue, and a note of the exception says how many. A
        process that is killed in it has put the first so and so many.
        """
        _core.Queue._put_many(self, items, block, timeout)

    def get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[Any]:
        """Takes up to `most` items: waits for the first, as `get` does, and returns what is there.

        Raises what `get` raises if there is none. An item that cannot be unpickled is consumed; if others can be
        returned, the next call of a get method raises what was wrong with it. ValueError: most is less than 1.
        """
        if most < 1:
            raise ValueError(f"get_many() takes at least one item, not {most}")
        return _core.Queue._get_many(self, most, block, timeout)

    # --- asyncio ---

    async def put_async(self, obj: Any, timeout: float | None = None) -> None:
        """`put` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        timeout: in seconds; None: without limit. Raises `Full` after that time, and what `put` raises. Cancelling ends
        the wait, and nothing was put.
        """
        from ._sync.asyncio_wait import attempted

        def attempt() -> bool | None:
            try:
                self.put(obj, False)
            except Full:
                return None
            return True

        if await attempted(self, attempt, timeout) is None:
            raise Full

    async def get_async(self, timeout: float | None = None) -> Any:
        """`get` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        timeout: in seconds; None: without limit. Raises `Empty` after that time, and what `get` raises. Cancelling ends
        the wait, and nothing was taken.
        """
        from ._sync.asyncio_wait import attempted

        def attempt() -> tuple[Any] | None:
            try:
                return (self.get(False),)
            except Empty:
                return None

        got = await attempted(self, attempt, timeout)
        if got is None:
            raise Empty
        return got[0]

    # --- the end ---

    def shutdown(self, immediate: bool = False) -> None:
        """From now on `put` raises `ShutDown`, in all processes, and `get` does so once the queue is empty.

        immediate: what is in the queue is thrown away now (and counts as done, for `JoinableQueue`). Who waits in
        either is told. As `queue.Queue.shutdown` of Python 3.13; multiprocessing has no such thing.
        """
        _core.Queue._shut_down(self, immediate)

    def close(self) -> None:
        """Lets go of the queue in this process: `put` and `get` raise ValueError from then on. Others go on with it."""
        let_go(self)

    def join_thread(self) -> None:
        """Does nothing: what was put is delivered. AssertionError: the queue was not closed."""
        assert is_closed(self), f"{self!r} is not closed"

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
        if is_closed(self):
            raise
        self._on_queue_feeder_error(error, obj)


def _put_nowait(self: Queue, obj: Any) -> None:
    self.put(obj, False)


def _get_nowait(self: Queue) -> Any:
    return self.get(False)


def _put_many(self: Queue, items: Iterable[Any], block: bool = True, timeout: float | None = None) -> None:
    end = None if timeout is None else monotonic() + timeout
    done = 0
    try:
        for item in items:
            self.put(item, block, None if end is None else max(0.0, end - monotonic()))
            done += 1
    except Exception as error:
        error.add_note(f"{done} items were put")
        raise


def _get_many(self: Queue, most: int, block: bool = True, timeout: float | None = None) -> list[Any]:
    if most < 1:
        raise ValueError(f"get_many() takes at least one item, not {most}")
    items = [self.get(block, timeout)]
    try:
        while len(items) < most:
            items.append(self.get(False))
    except Empty:
        pass
    return items


_MADE_OF = (
    ("put_nowait", "put", _put_nowait),
    ("get_nowait", "get", _get_nowait),
    ("put_many", "put", _put_many),
    ("get_many", "get", _get_many),
)


class JoinableQueue(Queue):
    """A queue that counts which of its items are dealt with.

    Each `put` makes one item unfinished, in the same instant in which it delivers it; `task_done` reports one finished;
    `join` waits until all are. A process that is killed between `get` and `task_done` leaves its item unfinished, as in
    multiprocessing.
    """

    def task_done(self) -> None:
        """Reports that an item which was taken has been dealt with. ValueError: more often than items were put."""
        if not _core.Queue._task_done(self):
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Waits until all items that were put have been reported done. Ctrl-C ends the wait."""
        _core.Queue._join(self)


class SimpleQueue(_Watched):
    """A queue with fewer methods: `put`, `get`, `empty`, `close`. What `Queue` says of itself holds here too."""

    def __init__(self, *, ctx: BaseContext | None = None) -> None:
        """ctx: of no consequence, contexts mix."""
        _core.Queue._create(self, 0)

    def close(self) -> None:
        """Lets go of the queue in this process: its methods raise OSError from then on."""
        let_go(self)

    __class_getitem__: Any = classmethod(GenericAlias)


def _state_of(queue: _Watched) -> str:
    if is_closed(queue):
        return "closed"
    count, most = _core.Queue.qsize(queue), _core.Queue.maxsize.__get__(queue)
    items = f"{count} item" if count == 1 else f"{count} items"
    limit = f" of at most {most}" if most else ""
    ending = ", shut down" if _core.Queue.is_shutdown.__get__(queue) else ""
    return f"{items}{limit}{ending}"


def let_go(queue: _Watched) -> None:
    """Closes a queue in this process, whatever `close` is in a derived class."""
    _core.Queue.close(queue)
    if isinstance(queue, SimpleQueue):
        # over the methods of the class, which need no check of their own then
        queue.put = queue.get = queue.empty = _refuse  # type: ignore[method-assign]
    elif isinstance(queue, Queue) and not _core.Queue.empty(queue):
        # what multiprocessing does for a queue that was in use; one that never was is still found empty
        queue.empty = _refuse  # type: ignore[method-assign]


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise OSError("the queue is closed")


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
