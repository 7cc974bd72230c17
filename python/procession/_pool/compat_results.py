"""What code uses that was written for multiprocessing's own pool: names of a pool and of its results, and results that
are made by hand.

Such a recipe makes a result, numbers its tasks with the result's `_job`, and puts them into `_taskqueue`; the pool
calls the result's `_set` for each. Here a thread, which exists only while such tasks wait, submits them to the engine.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import deque
from functools import partial
from types import GenericAlias

from ..context import TimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
    from typing import Any, Generic, Self, TypeVar

    from .engine import Engine, Supervisor

    T = TypeVar("T")

    # a task as multiprocessing's pool knows it: job, index, function, arguments, keywords
    Task = tuple[int, int, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
else:
    # type arguments are for type checkers alone: the bases are those without them
    T, Generic = None, {None: object}
    Iterator = Generic

__all__ = [
    "ApplyResult",
    "Cache",
    "IMapIterator",
    "IMapUnorderedIterator",
    "IteratorNames",
    "MapNames",
    "MapResult",
    "ResultNames",
    "TaskQueue",
    "found",
    "job_counter",
    "reraise",
]

job_counter: Iterator[int] = itertools.count()

# number of tasks of recipes that the engine has at a time, for each worker; the others are not read yet
_AHEAD = 8


class found:
    """An attribute that is computed when it is read, unless a program has set it."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make
        self.__doc__ = make.__doc__

    def __get__(self, obj: Any, kind: type | None = None) -> Any:
        return self if obj is None else self.make(obj)


def reraise(error: BaseException) -> None:
    """Raises `error`: the task for an exception of a recipe's input."""
    raise error


# --- results that are made by hand ---


class ApplyResult(Generic[T]):
    """The result of one call. A pool makes it; one that is made by hand gets its outcome through `_set`."""

    __module__ = "procession.pool"  # the public name, which pickles use

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(
        self,
        pool: Any,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool = pool
        self._event = threading.Event()
        self._cache = pool._cache
        self._callback, self._error_callback = callback, error_callback
        self._job = next(job_counter)
        self._cache[self._job] = self

    def ready(self) -> bool:
        """Returns whether there is a result or an error."""
        return bool(self._event.is_set())

    def successful(self) -> bool:
        """Returns whether the call has returned, and not raised. ValueError: it is still in progress."""
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return bool(self._success)

    def wait(self, timeout: float | None = None) -> None:
        """Waits until there is a result, at most `timeout` seconds; None: without limit."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """Waits for the result, as `wait`, and returns it, or raises the exception of the call or TimeoutError."""
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        if self._success:
            value: T = self._value
            return value
        raise self._value

    def cancel(self) -> bool:
        """Returns False: a call that was made by hand cannot be taken back."""
        return False

    def __await__(self) -> Generator[Any, None, T]:
        """Waits for the result in asyncio, with a thread."""
        import asyncio

        return asyncio.to_thread(self.get).__await__()

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        """Stores the outcome of a task: (success, value or exception)."""
        self._success, self._value = outcome
        self._finish()

    def _finish(self) -> None:
        call = self._callback if self._success else self._error_callback
        try:
            if call:
                call(self._value)
        finally:
            self._cache.pop(self._job, None)
            self._pool = None
            self._event.set()


if TYPE_CHECKING:
    Result = ApplyResult
else:
    Result = {list[None]: ApplyResult}


class MapResult(Result[list[T]]):
    """The result of many calls: a list. If it is made by hand, its tasks are chunks of `chunksize` items."""

    __module__ = "procession.pool"  # the public name, which pickles use

    def __init__(
        self,
        pool: Any,
        chunksize: int,
        length: int,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        ApplyResult.__init__(self, pool, callback, error_callback)
        self._success, self._value = True, [None] * length
        self._chunksize = chunksize
        self._number_left = -(-length // chunksize) if chunksize > 0 else 0
        if not self._number_left:
            self._callback = None  # as in multiprocessing, which does not call back for an empty input
            self._finish()

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        self._number_left -= 1
        success, value = outcome
        if not success and self._success:
            self._success, self._value = False, value
        elif self._success:
            self._value[index * self._chunksize : (index + 1) * self._chunksize] = value
        if not self._number_left:
            self._finish()


class IMapIterator(Iterator[T]):
    """The results of many calls, in the order of the input, as they come.

    A pool makes it. One that is made by hand gets outcomes through `_set`, and ends at the number that `_set_length`
    gives.
    """

    __module__ = "procession.pool"  # the public name, which pickles use

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)

    _index: Any  # number of tasks that are done
    _length: Any  # number of tasks; None until `_set_length` is called

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._cond = threading.Condition(threading.Lock())
        self._items: deque[tuple[bool, Any]] = deque()
        self._unsorted: dict[int, tuple[bool, Any]] = {}
        self._index = 0
        self._length = None
        self._cache = pool._cache
        self._job = next(job_counter)
        self._cache[self._job] = self

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> T:
        """Returns the next result, or raises the exception of the call.

        timeout: seconds; None: without limit. StopIteration: there are no more results. `procession.TimeoutError`:
        there was none in that time.
        """
        with self._cond:
            if not self._cond.wait_for(lambda: self._items or self._index == self._length, timeout):
                raise TimeoutError
            if not self._items:
                raise StopIteration
            success, value = self._items.popleft()
        if success:
            result: T = value
            return result
        raise value

    def __next__(self) -> T:
        return self.next()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        import asyncio

        value: T
        value, ended = await asyncio.to_thread(_next_or_end, self)
        if ended:
            raise StopAsyncIteration
        return value

    def _in_turn(self, index: int, outcome: tuple[bool, Any]) -> None:
        self._unsorted[index] = outcome
        while self._index in self._unsorted:
            self._items.append(self._unsorted.pop(self._index))
            self._index += 1

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        """Stores the outcome of a task: (success, value or exception)."""
        with self._cond:
            self._in_turn(index, outcome)
            self._changed()

    def _set_length(self, length: int) -> None:
        """Sets the number of tasks."""
        with self._cond:
            self._length = length
            self._changed()

    def _changed(self) -> None:
        self._cond.notify_all()
        if self._index == self._length:
            self._cache.pop(self._job, None)
            self._pool = None


if TYPE_CHECKING:
    Results = IMapIterator
else:
    Results = {None: IMapIterator}


class IMapUnorderedIterator(Results[T]):
    """The results of many calls, in the order in which they come."""

    __module__ = "procession.pool"  # the public name, which pickles use

    def _in_turn(self, index: int, outcome: tuple[bool, Any]) -> None:
        self._items.append(outcome)
        self._index += 1


def _next_or_end(results: IMapIterator[Any]) -> tuple[Any, bool]:
    try:
        return results.next(), False
    except StopIteration:
        return None, True


# --- names of results that a pool has made ---


class _Event:
    """An event that is set when a result is there."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def is_set(self) -> bool:
        return bool(self._result.ready())

    def wait(self, timeout: float | None = None) -> bool:
        self._result.wait(timeout)
        return self.is_set()


def _job_of(result: Any) -> int:
    """Returns its number among the results of this process, which it gets at the first call."""
    number: int = result.__dict__.setdefault("_job", next(job_counter))
    return number


class ResultNames:
    """Names of multiprocessing's results, for those that the engine makes. They cost nothing until they are read."""

    _event = found(_Event)
    _job = found(_job_of)
    _cache = found(lambda result: result._pool._cache)

    @found
    def _success(self: Any) -> bool:
        """Whether the call has returned; AttributeError while it is in progress."""
        if not self.ready():
            raise AttributeError("_success")
        return bool(self.successful())

    @found
    def _value(self: Any) -> Any:
        """The value or exception of the call; AttributeError while it is in progress."""
        if not self.ready():
            raise AttributeError("_value")
        self.wait(0)
        return self._outcome[1]


class MapNames:
    """Further names of the result of `map_async`."""

    @found
    def _number_left(self: Any) -> int:
        """Number of tasks that are not done."""
        if self.ready():
            return 0
        unsent = self._unsent
        return int(self._group.progress()[0]) + (0 if unsent is None else unsent.left())

    @found
    def _chunksize(self: Any) -> int:
        """Number of items per task; the average, unless the caller has given it."""
        length = self._length
        return int(self._chunk or -(-length // max(1, self._tasks))) if length else 0

    @found
    def _success(self: Any) -> bool:
        """Whether no call has raised so far."""
        self._look()
        return self._failure is None

    @found
    def _value(self: Any) -> Any:
        """The list, with None for items that are not done; or the exception."""
        self._look()
        return self._values if self._outcome is None else self._outcome[1]


class IteratorNames:
    """Names of multiprocessing's iterators, for those that the engine feeds."""

    _job = found(_job_of)
    _cache = found(lambda result: result._pool._cache)

    @found
    def _index(self: Any) -> int:
        """Number of items that are known here to be done; if results are handed out in order, without a gap."""
        return int(self._feed.given + len(self._ready))

    @found
    def _length(self: Any) -> int | None:
        """Number of items; None until all of the input is read."""
        return self._feed.fed if self._feed.ended else None


# --- names of a pool ---


class Cache(dict[int, "Any"]):
    """The calls of a pool in progress. The entries are the results that were made by hand; the length counts all."""

    def __init__(self, others: Callable[[], int]) -> None:
        super().__init__()
        self._others = others

    def __len__(self) -> int:
        return super().__len__() + self._others()

    def __bool__(self) -> bool:
        return len(self) > 0


class TaskQueue:
    """The queue for tasks of recipes: batches of (iterable of tasks, function that gets their number)."""

    def __init__(self, engine: Engine, supervisor: Supervisor, cache: Cache, processes: int) -> None:
        self._engine, self._supervisor, self._cache = engine, supervisor, cache
        self._most = _AHEAD * processes
        self._changed = threading.Condition()
        self._batches: deque[tuple[Iterable[Task], Callable[[int], object] | None]] = deque()
        self._running = self._closing = False
        # numbers of the engine's tasks that are in progress for this queue
        self.sent: set[int] = set()

    def put(self, batch: tuple[Iterable[Task], Callable[[int], object] | None] | None) -> None:
        """Runs the tasks, after those of earlier batches. None does nothing; in multiprocessing it ends a thread."""
        if batch is None:
            return
        with self._changed:
            self._batches.append(batch)
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="PoolRecipes", daemon=True).start()

    def qsize(self) -> int:
        """Returns how many batches and tasks no worker has begun."""
        return len(self._batches) + int(self._engine.waiting)

    def empty(self) -> bool:
        """Returns whether workers have begun all tasks."""
        return self.qsize() == 0

    def close(self) -> None:
        """Closes the engine when it has all tasks that were put here."""
        with self._changed:
            self._closing = True
            if not self._running:
                self._engine.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._batches:
                    self._running = False
                    if self._closing:
                        self._engine.close()
                    return
                tasks, told = self._batches.popleft()
            last = -1
            try:
                for task in tasks:
                    last = task[1] or 0
                    self._send(task)
                    if told and self._over():
                        break  # the rest would fail as well
                if told:
                    told(last + 1)
            except BaseException as error:
                # printed, as for any thread; the next batches run
                sys.excepthook(type(error), error, error.__traceback__)
            tasks = told = task = None  # type: ignore[assignment]

    def _over(self) -> bool:
        return self._engine.phase not in ("open", "closing")

    def _send(self, task: Task) -> None:
        job, index, function, args, keywords = task
        if function is reraise:
            self._settle(job, index, (False, args[0]))
            return
        with self._changed:
            self._changed.wait_for(lambda: len(self.sent) < self._most or self._over())
        supervisor = self._supervisor
        try:
            sent = None
            while sent is None:
                self._engine.wait_for_room()
                with supervisor.lock:
                    sent = self._engine.submit(function, args, keywords, None, 0, True)
                    if sent is not None:
                        self.sent.add(sent.id)
                        supervisor.watched[False, sent.id] = partial(self._told, sent, job, index, function)
        except Exception as error:
            self._settle(job, index, (False, error))

    def _told(self, sent: Any, job: int, index: int, function: Any) -> None:
        from .errors import error_of, name_of

        with self._changed:
            self.sent.discard(sent.id)
            self._changed.notify_all()
        success, value = sent.take()
        if not success:
            value = error_of(value, name_of(function), None, self._supervisor.broken)
        self._settle(job, index, (success, value))

    def _settle(self, job: int, index: int, outcome: tuple[bool, Any]) -> None:
        result = self._cache.get(job)
        if result is not None:
            result._set(index, outcome)
