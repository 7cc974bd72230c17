"""What a queue would be made of in multiprocessing: the two ends of a pipe, locks around them, a thread that feeds it.

Programs and libraries that know those look for them, and derive from our queues what they derive from
multiprocessing's. Some send the ends instead of the queue, to processes that are none of ours and have the standard
library's classes around them (loky does): the ends are made so that these work.
"""

from __future__ import annotations

from _thread import _local
from collections import deque

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..queues import Queue, _Watched

__all__ = [
    "NO_LOCK",
    "Ends",
    "Reader",
    "Writer",
    "find_ends",
    "get_from",
    "handle_of",
    "is_closed",
    "put_as_fed",
    "put_into",
    "sentinel",
    "take_end",
]

# What tells the feeder thread of multiprocessing's queues to end: classes derived from those import it.
sentinel = object()


# What a derived class may have other attributes for.


def handle_of(queue: _core.Queue) -> bytes:
    handle: bytes = _core.Queue.handle.__get__(queue)
    return handle


def is_closed(queue: _core.Queue) -> bool:
    closed: bool = _core.Queue.closed.__get__(queue)
    return closed


class _NoLock:
    """Stands where multiprocessing has locks around the ends of a pipe, and a count of what is in it."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self) -> None:
        pass

    __enter__ = acquire

    def __exit__(self, *exception: object) -> None:
        pass

    def __reduce__(self) -> str:
        return "NO_LOCK"


NO_LOCK = _NoLock()


class _End:
    """One end of a queue, with the methods of the connection that multiprocessing has there."""

    __slots__ = ("_queue",)

    def __init__(self, queue: _Watched) -> None:
        self._queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        from ..queues import _Watched

        # not the queue, whose class may be one that sends its ends
        bare = _Watched.__new__(_Watched)
        bare._attach(handle_of(self._queue))
        return type(self), (bare,)

    def fileno(self) -> int:
        """The queue's descriptor: readable while there are items. Nothing can be written to it."""
        return _core.Queue._watch(self._queue)

    def _ready(self) -> bool:
        return _core.Queue._ready(self._queue)

    def close(self) -> None:
        """Closes this end in this process; the queue itself is closed here when both its ends are."""
        closed = self._queue.__dict__.setdefault("_closed_ends", set())
        closed.add(type(self))
        if len(closed) == 2 and not is_closed(self._queue):
            from ..queues import let_go

            let_go(self._queue)  # not close(), which in a derived class may close the ends

    @property
    def closed(self) -> bool:
        return is_closed(self._queue) or type(self) in self._queue.__dict__.get("_closed_ends", ())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._queue is self._queue

    def __hash__(self) -> int:
        return hash((type(self), id(self._queue)))


class Reader(_End):
    __slots__ = ()

    readable, writable = True, False

    def recv(self) -> Any:
        """The next item; waits for one."""
        return _core.Queue._get(self._queue, *getattr(_limits, "now", ()))

    def recv_bytes(self) -> bytes:
        """The next item as multiprocessing's pipe would have it: pickled."""
        _receiving.pickled = True
        try:
            item = self.recv()
        finally:
            _receiving.pickled = False
        return item.pickle if type(item) is _Pickled else _dumps(item)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is an item, waiting up to timeout seconds for one; None: without limit."""
        return _core.Queue._wait_for_item(self._queue, timeout)


class Writer(_End):
    __slots__ = ()

    readable, writable = False, True

    def send(self, obj: Any) -> None:
        """Puts an item."""
        _core.Queue._put(self._queue, obj, *getattr(_limits, "now", ()))

    def send_bytes(self, buf: Any) -> None:
        """Puts the item that these bytes are the pickle of."""
        self.send(_Pickled(bytes(buf)))


class _Pickled:
    """An item that somebody else has pickled, in a way of their own: it is sent as it is."""

    __slots__ = ("pickle",)

    def __init__(self, pickle: bytes) -> None:
        self.pickle = pickle

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.pickle,)


def _unpickled(pickle: bytes) -> Any:
    if getattr(_receiving, "pickled", False):
        return _Pickled(pickle)
    return _loads(pickle)


_receiving = _local()  # pickled: this thread wants the item's pickle


_limits = _local()  # now: the block and timeout of the `put` or `get` that goes through an end in this thread


# --- ends that a derived class has put in the place of ours ---


class Ends(tuple):  # type: ignore[type-arg]  # which would have to be imported
    """The two, as part of a queue's state when it is pickled; None: it is ours."""

    __slots__ = ()


def take_end(queue: _Watched, kind: type[_End], end: Any) -> None:
    """The end that a derived class assigns: a wrapper around ours, or ours, of the queue that this one is to be."""
    inner = getattr(end, "_queue", None)  # wrappers hand on what they do not know
    if isinstance(inner, _core.Queue) and not _are_same(queue, inner):
        _core.Queue._attach(queue, handle_of(inner))
    ends: dict[type[_End], Any] = queue.__dict__.setdefault("_own_ends", {})
    ends[kind] = None if type(end) is kind else end


def find_ends(queue: _Watched) -> None:
    """Has `put` and `get` go through wrappers that have methods of their own for it; others are merely there."""
    ends = queue.__dict__.get("_own_ends", {})
    wanted = ((Reader, "recv_bytes"), (Writer, "send_bytes"))
    _core.Queue._go_through_ends(queue, any(hasattr(type(ends.get(kind)), method) for kind, method in wanted))


def _are_same(queue: _core.Queue, other: _core.Queue) -> bool:
    if queue is other:
        return True
    try:
        key = _core.Queue._key.__get__
        return bool(key(queue) == key(other))
    except RuntimeError:  # it is being put together
        return False


def put_into(queue: _Watched, obj: Any, *limits: Any) -> None:
    """`put` through the wrapper. Ours, inside, waits as long as `put` may."""
    pickled = _dumps(obj)
    _limits.now = limits
    try:
        queue._writer.send_bytes(pickled)
    finally:
        _limits.now = ()


def get_from(queue: _Watched, *limits: Any) -> Any:
    """`get` through the wrapper."""
    _limits.now = limits
    try:
        pickled = queue._reader.recv_bytes()
    finally:
        _limits.now = ()
    return _loads(pickled)


# --- a feeder of a derived class ---


def put_as_fed(self: Queue, obj: Any, block: bool = True, timeout: float | None = None) -> None:
    """`put` of a class that overrides `_feed`, the function of multiprocessing's feeder thread, to pickle otherwise.

    It is called here, for this one object, and so has sent it when this returns. What it does about errors is its own.
    """
    from threading import Condition

    if is_closed(self):
        raise ValueError(f"{self!r} is closed")
    if not block and self.full():
        from queue import Full

        raise Full
    feed = type(self)._feed  # type: ignore[attr-defined]
    known = {
        "buffer": deque((obj, sentinel)),
        "notempty": Condition(),
        "send_bytes": lambda pickle: _core.Queue._put(self, _Pickled(bytes(pickle)), block, timeout),
        "writelock": NO_LOCK,
        "queue_sem": NO_LOCK,
        "onerror": self._on_queue_feeder_error,
    }
    known |= dict.fromkeys(("close", "reader_close", "writer_close"), lambda: None)
    code = feed.__code__
    names = code.co_varnames[: code.co_argcount]
    feed(*(known[name] if name in known else getattr(self, f"_{name}") for name in names))


def _dumps(obj: object) -> bytes:
    from .._serialize.by_value import dumps
    from ..reduction import ForkingPickler

    return dumps(obj, lambda obj: bytes(ForkingPickler.dumps(obj)))


def _loads(pickled: Any) -> Any:
    from ..reduction import ForkingPickler

    return ForkingPickler.loads(pickled)
