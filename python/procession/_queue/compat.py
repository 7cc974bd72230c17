"""The parts of a queue in multiprocessing: the two ends of a pipe, locks around them, a thread that feeds it.

Programs and libraries use these parts, and derive classes from our queues as from multiprocessing's. Some send the ends
instead of the queue, to processes that are not ours and put the standard library's classes around them (loky): our ends
work there.
"""

from __future__ import annotations

# in C: importing collections takes milliseconds
from _collections import deque  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
from _thread import _local

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

# The object that ends the feeder thread of multiprocessing's queues. Classes derived from these queues import it.
sentinel = object()


# These read our attributes although a derived class may use the names for something else.


def handle_of(queue: _core.Queue[Any]) -> bytes:
    handle: bytes = _core.Queue.handle.__get__(queue)
    return handle


def is_closed(queue: _core.Queue[Any]) -> bool:
    closed: bool = _core.Queue.closed.__get__(queue)
    return closed


class _NoLock:
    """Replaces the locks around the ends of multiprocessing's pipe, and the count of items in it."""

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

    def __init__(self, queue: _Watched[Any]) -> None:
        self._queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        from ..queues import _Watched

        # not the queue itself, whose class may pickle its ends
        bare = _Watched.__new__(_Watched)
        bare._attach(handle_of(self._queue))
        return type(self), (bare,)

    def fileno(self) -> int:
        """Returns the descriptor of the queue: readable while there are items. Nothing can be written to it."""
        return _core.Queue._watch(self._queue)

    def _ready(self) -> bool:
        return _core.Queue._ready(self._queue)

    def close(self) -> None:
        """Closes this end in this process. When both ends are closed, the queue is closed here."""
        closed = self._queue.__dict__.setdefault("_closed_ends", set())
        closed.add(type(self))
        if len(closed) == 2 and not is_closed(self._queue):
            from ..queues import let_go

            let_go(self._queue)  # not close(), which may close the ends in a derived class

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
        """Returns the next item; waits for it."""
        return _core.Queue._get(self._queue, *getattr(_limits, "now", ()))

    def recv_bytes(self) -> bytes:
        """Returns the pickle of the next item, as multiprocessing's pipe does."""
        _receiving.pickled = True
        try:
            item = self.recv()
        finally:
            _receiving.pickled = False
        return item.pickle if type(item) is _Pickled else _dumps(item)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Waits until there is an item, at most `timeout` seconds; None: without limit. Returns whether there is
        one."""
        return _core.Queue._wait_for_item(self._queue, timeout)


class Writer(_End):
    __slots__ = ()

    readable, writable = False, True

    def send(self, obj: Any) -> None:
        """Puts an item."""
        _core.Queue._put(self._queue, obj, *getattr(_limits, "now", ()))

    def send_bytes(self, buf: Any) -> None:
        """Puts the item whose pickle these bytes are."""
        self.send(_Pickled(bytes(buf)))


class _Pickled:
    """An item that other code has pickled, in its own way. It is sent as it is."""

    __slots__ = ("pickle",)

    def __init__(self, pickle: bytes) -> None:
        self.pickle = pickle

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.pickle,)


def _unpickled(pickle: bytes) -> Any:
    if getattr(_receiving, "pickled", False):
        return _Pickled(pickle)
    return _loads(pickle)


_receiving = _local()  # pickled: this thread reads the pickle of an item


_limits = _local()  # now: block and timeout of the `put` or `get` that goes through an end in this thread


# --- ends that a derived class has set ---


class Ends(tuple):  # type: ignore[type-arg]  # its type argument would have to be imported
    """The two ends, as part of the pickled state of a queue; None: our own end."""

    __slots__ = ()


def take_end(queue: _Watched[Any], kind: type[_End], end: Any) -> None:
    """Stores the end that a derived class assigns: a wrapper of ours, or ours, of the queue that this one becomes."""
    inner = getattr(end, "_queue", None)  # wrappers delegate unknown attributes
    if isinstance(inner, _core.Queue) and not _are_same(queue, inner):
        _core.Queue._attach(queue, handle_of(inner))
    ends: dict[type[_End], Any] = queue.__dict__.setdefault("_own_ends", {})
    ends[kind] = None if type(end) is kind else end


def find_ends(queue: _Watched[Any]) -> None:
    """Makes `put` and `get` use wrappers that have their own methods for bytes. Other wrappers are only stored."""
    ends = queue.__dict__.get("_own_ends", {})
    wanted = ((Reader, "recv_bytes"), (Writer, "send_bytes"))
    _core.Queue._go_through_ends(queue, any(hasattr(type(ends.get(kind)), method) for kind, method in wanted))


def _are_same(queue: _core.Queue[Any], other: _core.Queue[Any]) -> bool:
    if queue is other:
        return True
    try:
        key = _core.Queue._key.__get__
        return bool(key(queue) == key(other))
    except RuntimeError:  # the queue is being assembled
        return False


def put_into(queue: _Watched[Any], obj: Any, *limits: Any) -> None:
    """Puts through the wrapper. Our end, inside, waits as long as `put` may."""
    pickled = _dumps(obj)
    _limits.now = limits
    try:
        queue._writer.send_bytes(pickled)
    finally:
        _limits.now = ()


def get_from(queue: _Watched[Any], *limits: Any) -> Any:
    """Gets through the wrapper."""
    _limits.now = limits
    try:
        pickled = queue._reader.recv_bytes()
    finally:
        _limits.now = ()
    return _loads(pickled)


# --- the feeder of a derived class ---


def put_as_fed(self: Queue[Any], obj: Any, block: bool = True, timeout: float | None = None) -> None:
    """`put` of a class that overrides `_feed`, the function of multiprocessing's feeder thread, to pickle differently.

    It calls `_feed` for this one object, so the object is sent when this returns. `_feed` handles its own errors.
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
