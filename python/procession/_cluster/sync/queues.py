"""Queues that the processes of a cluster share, as they are in a process.

A message is in the scheduler when `put` returns. The state of a queue, and what becomes of messages whose consumer
dies, is in `hub_queue`; big messages are in `big`.
"""

from __future__ import annotations

import os
from _operator import index
from _thread import start_new_thread
from queue import Empty, Full
from time import monotonic
from types import GenericAlias

from ..._sync.base import SEM_VALUE_MAX
from ...queues import ShutDown  # pyright: ignore[reportAttributeAccessIssue]
from .call import Lost
from .handle import Handle, deadline_of
from .local_class import local_class
from .messages import Failed, Packed, Unpacker, is_elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Generic, TypeVar

    from .call import Here

    T = TypeVar("T")

    class _HandleOf(Handle, Generic[T]):
        pass
else:
    # type arguments are for type checkers alone
    T, _HandleOf = None, {None: Handle}

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

_MOST_PUT, _MOST_BYTES, _LONGEST = 512, 1 << 20, 0.005  # of a batch: messages, bytes, seconds in which it is collected


class _Queue(_HandleOf[T]):
    """What all queues have."""

    _maxsize_given = _maxbytes_given = 0
    _closed = False
    _received: list[Any]
    _receiver: int  # the process that has received these

    def _make_queue(self, here: Here, name: str | None, maxsize: int, maxbytes: int) -> None:
        self._maxsize_given, self._maxbytes_given = maxsize, maxbytes
        self._received, self._receiver = [], os.getpid()
        self._make(here, "Queue", name, maxsize, maxbytes)

    def __getstate__(self) -> Any:
        return super().__getstate__(), self._maxsize_given, self._maxbytes_given

    def __setstate__(self, state: Any) -> None:
        base, self._maxsize_given, self._maxbytes_given = state
        self._received, self._receiver = [], os.getpid()
        super().__setstate__(base)

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            return local_class(type(self), "queues", True)

    def __repr__(self) -> str:
        kind = type(self)
        state = "closed" if self._closed else f"object {self._number} of a cluster"
        name = getattr(self, "name", None)
        return f"<{kind.__module__}.{kind.__qualname__} object at {id(self):#x}: {state}{f', {name}' if name else ''}>"

    def qsize(self) -> int:
        """Returns the number of items in the queue. Exact."""
        found: int = self._look()[0]
        return found

    def _look(self) -> list[Any]:
        """Returns [number of messages, bytes, is it full, is it shut down, unfinished]."""
        found: list[Any] = self._call("look")
        return found

    def _poll(self, timeout: float | None = 0.0) -> bool:
        """Waits until there is an item, at most `timeout` seconds; None: without limit. Returns whether there is
        one."""
        if self._left:
            return True
        return bool(self._call("item", deadline=deadline_of(timeout)))

    def fileno(self) -> int:
        """Raises OSError (`io.UnsupportedOperation`): the queue of a cluster has no descriptor."""
        from io import UnsupportedOperation

        raise UnsupportedOperation("a queue of a cluster has no descriptor: use get(timeout=...) or get_async()")

    @property
    def closed(self) -> bool:
        """Whether the queue was closed in this process."""
        return self._closed

    @property
    def _reader(self) -> _End:
        return _End(self)

    _writer = _reader

    # --- what `put` and `get` are made of ---

    @property
    def _left(self) -> list[Any]:
        """Items that an interrupted `get` of this process had received, and errors in `Failed`. A forked child has its
        own."""
        if self._receiver != os.getpid():
            self._received, self._receiver = [], os.getpid()
        return self._received

    def _put_all(self, messages: list[Packed], block: bool, deadline: float | None) -> None:
        """Puts messages. Full, ShutDown: `count` is the number of those that are in the queue."""
        before: list[bytes] = []
        given = [message.given(self._here, before) for message in messages]
        wait = bool(block) and (deadline is None or monotonic() < deadline)
        kind, count = self._call("put", wait, given, deadline=deadline, before=b"".join(before))
        if kind != "put":
            raise _not_put(kind, count)

    def _get_some(
        self, most: int, block: bool, deadline: float | None, further: bool = False
    ) -> tuple[list[Any], bool]:
        """Gets at least one item. Returns the items, and whether there are more in the queue.

        further: this continues a call that has items. If the first one has an error, that is left for the next call.
        """
        received = self._left
        if received and (left := _first_of(received, further)) is not None:
            return left
        wait = bool(block) and (deadline is None or monotonic() < deadline)
        values: list[Any] = []
        skip = good = 0
        more = False
        channel = self._here.channel()
        unpacker = Unpacker(self._here, self._number, deadline if block else monotonic())
        try:
            answer = channel.ask(self._number, "get", [wait, most], deadline, _back)
            # Without a call in between, at which a signal handler may raise: from here on the messages go back.
            if answer[0] == "ok" and answer[1][0] == "items":
                _, messages, more, unpacker.number = answer[1]
                values, skip = unpacker.all(messages)
                good = next((n for n, value in enumerate(values) if type(value) is Failed), skip)
                unpacker.end(channel, skip, skip == len(messages))
                # Again without a call, until the items are the caller's.
        except BaseException:
            if unpacker.number:
                if channel.last is unpacker:  # the hub is told, so the next call returns them
                    received[:0] = values[:skip]
                else:
                    skip = 0
                try:
                    # one that a fetch has left is closed by its thread
                    unpacker.end(self._here.channel() if channel.left else channel, skip, False)
                except BaseException:
                    start_new_thread(unpacker.end_there, (skip,))
                    raise
            raise
        if good and good == skip:
            return values, more
        if good or (further and skip):
            received[:0] = values[good:]
            return values[:good], bool(good)
        if skip:
            received[:0] = values[1:]
            raise values[0].error
        if unpacker.number:
            raise Empty
        raise Empty if self._result(answer)[0] == "empty" else ShutDown


def _first_of(received: list[Any], further: bool) -> tuple[list[Any], bool] | None:
    """Returns the first of the items that an earlier call has received, and whether there are more; or raises its
    error. None: another thread has taken it."""
    taken: list[Any] = []
    try:
        taken.extend(map(received.pop, (0,)))  # one call of C, so that no signal handler runs before it is noted
        failed = type(taken[0]) is Failed
        more = bool(received)
    except BaseException:
        if not taken:
            return None
        received[:0] = taken
        raise
    if not failed:
        return taken, more
    if further:
        received[:0] = taken
        return [], False
    raise taken[0].error


def _not_put(kind: str, count: int) -> Exception:
    """Returns the error of a `put`. count: of its messages that are in the queue."""
    error: Exception = Full() if kind == "full" else ShutDown()
    error.count = count  # type: ignore[attr-defined]
    return error


def _back(answer: Any) -> Any:
    """Returns what gives back the messages of an interrupted `get`."""
    return ("back", [answer[1][3], 0]) if answer[0] == "ok" and answer[1][0] == "items" else None


if TYPE_CHECKING:
    _Base = _Queue
else:
    _Base = {None: _Queue}


class Queue(_Base[T]):
    """A first-in first-out queue of a cluster, which its nodes and its client share. `ClusterContext.Queue` makes
    one.

    When `put` returns, the message is in the memory of Dask's scheduler. A message of 1 MiB or more that is put by a
    process of a node stays at that node; its consumer gets it directly from there, or `MessageLostError` if the node
    has died. All others outlive the process and the node that put them. If a process is killed during `put` or `get`,
    the queue stays usable, and the message that it was receiving goes to the next consumer. Only if a consumer's node
    dies, the messages that were on their way to it are lost.

    Difference from `procession.Queue`: there is no descriptor to wait for (`fileno`). All methods raise ConnectionError
    if the scheduler has gone.
    """

    def __init__(self, here: Here, maxsize: int = 0, maxbytes: int | str = 0, name: str | None = None) -> None:
        from ..._arguments import count, size

        sizes = max(0, count("maxsize", maxsize, None)), size("maxbytes", maxbytes)
        self._make_queue(here, name, *sizes)

    @property
    def maxsize(self) -> int:
        """The number of items at which `put` waits; 0: no limit."""
        return self._maxsize_given

    @property
    def maxbytes(self) -> int:
        """The number of bytes at which `put` waits; 0: no limit."""
        return self._maxbytes_given

    @property
    def _maxsize(self) -> int:
        """`maxsize`, for programs written for multiprocessing: a big number if there is no limit."""
        return self._maxsize_given or SEM_VALUE_MAX

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down."""
        return bool(self._look()[3])

    def _check(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Puts an item; waits for room, `timeout` seconds at most.

        Raises:
            Full: there was no room.
            ShutDown: the queue was shut down.
            ValueError: the queue is closed.
            TypeError: the object contains one that is of use on this machine only.
            ConnectionError: the scheduler has gone.
        """
        self._check()
        self._put_all([Packed(obj)], block, deadline_of(timeout))

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Takes the first item; waits for it, `timeout` seconds at most.

        Raises:
            Empty: there was no item.
            ShutDown: the queue was shut down, and is empty.
            ValueError: the queue is closed.
            MessageLostError: the item was a big one, at a node that has died. The next call returns the next item.
            ConnectionError: the scheduler has gone.
        """
        self._check()
        item: T = self._get_some(1, block, deadline_of(timeout))[0][0]
        return item

    def put_nowait(self, obj: T) -> None:
        """Puts an item, or raises Full."""
        self.put(obj, False)

    def get_nowait(self) -> T:
        """Takes an item, or raises Empty."""
        return self.get(False)

    def put_many(self, items: Iterable[T], block: bool = True, timeout: float | None = None) -> None:
        """Puts all items, in order, in batches. Items of other processes may come in between.

        If it raises, the items before are in the queue, and a note of the exception says how many.

        Args:
            items: what to put; it also raises what iterating over it raises.
            block: as for `put`.
            timeout: seconds, for all items together; None: without limit.

        Raises:
            Full, ShutDown: as for `put`.
        """
        self._check()
        deadline = deadline_of(timeout)
        done = 0
        try:
            for batch in _batches(items):
                self._put_all(batch, block, deadline)
                done += len(batch)
        except Exception as error:
            error.add_note(f"{done + getattr(error, 'count', 0)} items were put")
            raise

    def get_many(self, most: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Waits for the first item, as `get` does, and takes up to `most` items that are there then.

        An item that cannot be unpickled is consumed. If it returns other items, the next call of a get method raises
        the error.

        Raises:
            Empty, ShutDown, MessageLostError: as for `get`, if there is no item.
            ValueError: `most` is less than 1.
        """
        most = index(most)
        if most < 1:
            raise ValueError(f"get_many() takes at least one item, not {most}")
        self._check()
        received = self._left
        items, more = self._get_some(most, block, deadline_of(timeout))
        try:
            while more and len(items) < most:
                try:
                    further, more = self._get_some(most - len(items), False, None, True)
                except (Empty, ShutDown, Lost):
                    break
                items += further
        except BaseException:  # a signal handler has raised: the next call returns these
            received[:0] = items
            raise
        return items

    # --- asyncio ---

    async def put_async(self, obj: T, timeout: float | None = None) -> None:
        """`put` for asyncio: the event loop runs meanwhile, and no thread waits. Cancelling ends the wait.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            Full: there was no room in that time. It also raises what `put` raises.
        """
        self._check()
        before: list[bytes] = []
        given = [Packed(obj).given(self._here, before)]
        wait = timeout is None or timeout > 0
        kind, count = await self._call_async(
            "put", wait, given, timeout=timeout if wait else None, before=b"".join(before)
        )
        if kind != "put":
            raise _not_put(kind, count)

    async def get_async(self, timeout: float | None = None) -> T:
        """`get` for asyncio: the event loop runs meanwhile. Cancelling ends the wait, and no item is taken.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            Empty: there was no item in that time. It also raises what `get` raises.
        """
        import asyncio

        self._check()
        received = self._left
        if received and (left := _first_of(received, False)) is not None:
            return left[0][0]  # type: ignore[no-any-return]
        wait = timeout is None or timeout > 0
        unpacker = Unpacker(self._here, self._number, deadline_of(timeout))
        channel: Any = None
        values: list[Any] = []
        skip, failed = 0, False
        try:
            found = await self._call_async("get", wait, 1, timeout=timeout if wait else None, undo=_back)
            if found[0] == "items":  # as in `_get_some`
                _, messages, _, unpacker.number = found
                if is_elsewhere(messages[0]):  # a thread fetches it
                    values, skip = await asyncio.to_thread(unpacker.all, messages)
                else:
                    values, skip = unpacker.all(messages)
                failed = bool(values) and type(values[0]) is Failed
                channel = self._here.channel()
                unpacker.end(channel, skip, skip == 1)
        except BaseException:
            if unpacker.number:
                if channel is not None and channel.last is unpacker:
                    received[:0] = values[:skip]
                else:
                    skip = 0
                try:
                    unpacker.end(self._here.channel(), skip, False)
                except BaseException:
                    start_new_thread(unpacker.end_there, (skip,))
                    raise
            raise
        if failed:
            raise values[0].error
        if skip:
            return values[0]  # type: ignore[no-any-return]
        raise ShutDown if found[0] == "shutdown" else Empty

    # --- the end ---

    def empty(self) -> bool:
        """Returns whether there is no item. Exact. OSError: the queue is closed, and there are items."""
        empty = not self.qsize()
        if self._closed and not empty:
            raise OSError("the queue is closed")
        return empty and not self._left

    def full(self) -> bool:
        """Returns whether `put` would wait. Exact."""
        return bool(self._look()[2])

    def shutdown(self, immediate: bool = False) -> None:
        """Makes `put` raise `ShutDown` from now on, in all processes, and `get` once the queue is empty.

        Processes that wait in either are woken.

        Args:
            immediate: throws the items away now. `JoinableQueue` counts them as done.
        """
        self._surely("shutdown", bool(immediate))

    def close(self) -> None:
        """Closes the queue in this process: `put` and `get` raise ValueError from then on. Others go on with it."""
        self._closed = True

    def join_thread(self) -> None:
        """Does nothing: all items are delivered. AssertionError: the queue was not closed."""
        assert self._closed, f"{self!r} is not closed"

    def cancel_join_thread(self) -> None:
        """Does nothing: a process does not wait for a thread of the queue when it exits."""

    __class_getitem__: Any = classmethod(GenericAlias)


if TYPE_CHECKING:
    _OfQueue = Queue
else:
    _OfQueue = {None: Queue}


class JoinableQueue(_OfQueue[T]):
    """A queue of a cluster that counts its unfinished items. See `procession.queues.JoinableQueue`.

    If a process is killed between `get` and `task_done`, its item stays unfinished, as in multiprocessing. So does one
    that is lost.
    """

    def task_done(self) -> None:
        """Reports that an item which was taken is finished. ValueError: called more often than items were put."""
        if not self._surely("done"):
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Waits until all items that were put are reported finished. Ctrl-C ends the wait."""
        self._call("join")


class SimpleQueue(_Base[T]):
    """A queue of a cluster with fewer methods: `put`, `get`, `empty`, `close`. Otherwise as `Queue`."""

    def __init__(self, here: Here, name: str | None = None) -> None:
        self._make_queue(here, name, 0, 0)

    def put(self, obj: T) -> None:
        """Puts an item."""
        self._check()
        self._put_all([Packed(obj)], True, None)

    def get(self) -> T:
        """Takes the first item; waits for it. MessageLostError: as for `Queue.get`."""
        self._check()
        item: T = self._get_some(1, True, None)[0][0]
        return item

    def empty(self) -> bool:
        """Returns whether there is no item."""
        self._check()
        return not self._left and not self.qsize()

    def close(self) -> None:
        """Closes the queue in this process: its methods raise OSError from then on."""
        self._closed = True

    def _check(self) -> None:
        if self._closed:
            raise OSError("the queue is closed")

    __class_getitem__: Any = classmethod(GenericAlias)


class _End:
    """An end of a queue, with the methods of the connection that multiprocessing has there."""

    __slots__ = ("_queue",)

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def poll(self, timeout: float | None = 0.0) -> bool:
        return bool(self._queue._poll(timeout))

    def recv(self) -> Any:
        return self._queue.get()

    def send(self, obj: Any) -> None:
        self._queue.put(obj)

    def fileno(self) -> int:
        return int(self._queue.fileno())

    def close(self) -> None:
        self._queue.close()

    @property
    def closed(self) -> bool:
        return bool(self._queue.closed)


def _batches(items: Iterable[Any]) -> Iterator[list[Packed]]:
    """Yields the messages for items. If an item raises, those before it are yielded first."""
    batch: list[Packed] = []
    size, began = 0, monotonic()
    try:
        for item in items:
            batch.append(Packed(item))
            size += batch[-1].size
            if len(batch) >= _MOST_PUT or size >= _MOST_BYTES or monotonic() - began > _LONGEST:
                yield batch
                batch, size, began = [], 0, monotonic()
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
