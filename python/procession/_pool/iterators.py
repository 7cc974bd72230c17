"""The iterators of a pool: results of `imap` and `imap_unordered`, as they come."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from functools import partial

from ..context import TimeoutError
from .compat_results import IMapIterator, IMapUnorderedIterator, IteratorNames
from .errors import error_of, mark_item, name_of
from .results import call_as, call_soon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any, Self, TypeVar

    from .imap_input import Feed

    T = TypeVar("T")
    Ordered = IMapIterator
    Unordered = IMapUnorderedIterator
else:
    # type arguments are for type checkers alone: the bases are those without them
    T, Ordered, Unordered = None, {None: IMapIterator}, {None: IMapUnorderedIterator}

__all__ = ["ResultIterator", "UnorderedResultIterator"]


class ResultIterator(IteratorNames, Ordered[T]):
    """The results of `imap`, in the order of the input, as they come."""

    _ordered = True

    # makes of an exception that is handed out the one that the caller gets; executors have classes of their own
    converted: Callable[[BaseException], BaseException] = staticmethod(lambda error: error)

    def __init__(self, pool: Any, feed: Feed, function: Any, bar: Any) -> None:
        self._pool = pool
        self._feed = feed
        self._group = feed.group
        self._function = function
        self._chunk = feed.chunk
        self._bar = bar
        self._lock = threading.Lock()
        self._collected = 0  # number of tasks whose outcomes were collected
        self._come: deque[tuple[int, bool, Any]] = deque()  # outcomes that were collected and not processed
        self._ready: deque[tuple[bool, Any, int]] = deque()  # success, value, number of items
        self._early: dict[int, tuple[bool, Any, int]] = {}  # results that are not due yet, by number
        self._next = 0  # the number of the result that is due
        self._last = -1  # the number of the outcome that was processed last
        self._calls: deque[Callable[[], object]] = deque()  # functions that wake coroutines

    def __iter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        feed = self._feed
        read = f"all {feed.fed} items read" if feed.ended else f"{feed.fed} items read"
        return f"{object.__repr__(self)[:-1]}: {name_of(self._function)}(), {feed.given} results fetched, {read}>"

    def __del__(self) -> None:
        feed: Feed | None = getattr(self, "_feed", None)
        if feed is not None and not feed.ended:
            feed.forget()

    def next(self, timeout: float | None = None) -> T:
        """Returns the next result, or raises the exception of its call; see `AsyncResult.get`.

        The iterator can be used after an exception; it goes on with the next result.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            StopIteration: there are no more results.
            procession.TimeoutError: there was none in that time.
        """
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        try:
            success, value = self._take(timeout)
        finally:
            self._lock.release()
        if success:
            result: T = value
            return result
        raise value

    def __next__(self) -> T:
        with self._lock:
            ready = self._ready
            if ready:  # the common case, which must be fast
                success, value, items = ready.popleft()
                feed = self._feed
                feed.given += items
                if feed.fed - feed.given < feed.ahead >> 1:  # so that the workers do not wait for this thread
                    feed.more()
                if success:
                    return value  # type: ignore[no-any-return]
            else:
                success, value = self._take(None)
        if success:
            return value  # type: ignore[no-any-return]
        raise value

    def _take(self, timeout: float | None) -> tuple[bool, Any]:
        began = time.monotonic()
        limit = None if timeout is None else began + timeout
        feed = self._feed
        while not self._ready:
            feed.more()
            while feed.failures:
                number, error, items = feed.failures.popleft()
                self._came(number, False, error, items)
            if self._ready:
                break
            if feed.over(self._collected) or (feed.ended and self._all_taken()):
                if self._early:  # an exception of a signal handler has lost the result that was due
                    self._next = min(self._early)
                    success, value, items = self._early.pop(self._next)
                    self._give(success, value, items)
                    self._next += items
                    continue
                last, feed.last = feed.last, None
                if last is not None:
                    return False, last
                if self._bar is not None:
                    self._bar.close()
                raise StopIteration
            left = None if limit is None else max(0.0, limit - time.monotonic())
            unsent = feed.inline and feed.sent == self._collected
            if not (feed.wait_to_send(left) if unsent else self._collect(left, began)):
                raise TimeoutError
        success, value, items = self._ready.popleft()
        feed.given += items
        return success, value

    def _collect(self, timeout: float | None, since: float | None = None) -> bool:
        """Waits for outcomes. Returns False if the time has passed. `since`: when the wait began, for observers."""
        # A signal handler may raise between any two steps. So an outcome leaves `_come` after it was processed, and one
        # that was processed is recognised by its number.
        come = self._come
        if not come and not self._group.collect_into(come, timeout, since):
            return False
        while come:
            number, success, value = come[0]
            if number != self._last:
                self._collected += 1
                self._arrived(number, success, value)
                self._last = number
            come.popleft()
        return True

    def _all_taken(self) -> bool:
        """Returns whether no task is in progress or waits to be collected."""
        return not self._come and self._group.progress() == (0, 0) and not self._feed.failures

    def _arrived(self, number: int, success: bool, value: Any) -> None:
        if not success:
            of_item = self._chunk == 1 and value[0] not in ("cancelled", "abandoned")
            value = error_of(value, name_of(self._function), number, self._pool._supervisor.broken)
            if of_item:
                mark_item(value, number)
            self._came(number, False, value, self._chunk)
        elif self._chunk > 1:
            # the items of the list count one by one; the last one completes the task
            self._came(number, None, value, len(value))
        else:
            self._came(number, True, value, 1)

    def _came(self, number: int, success: bool | None, value: Any, items: int) -> None:
        if self._bar is not None:
            self._bar.update(items)
            self._bar.flush()
        if not self._ordered:
            self._give(success, value, items)
        elif number < self._next:
            pass  # it was handed out already, before a signal handler raised
        elif number != self._next:
            self._early[number] = (success, value, items)  # type: ignore[assignment]
        else:
            self._give(success, value, items)
            self._next += items
            while self._next in self._early:
                success, value, items = self._early.pop(self._next)
                self._give(success, value, items)
                self._next += items

    def _give(self, success: bool | None, value: Any, items: int) -> None:
        if success is None:
            self._ready.extend((True, item, 1) for item in value)
        else:
            self._ready.append((success, value, items))

    # --- for async for ---

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        import asyncio

        loop = asyncio.get_running_loop()
        supervisor, key, feed = self._pool._supervisor, (True, self._group.id), self._feed
        while True:
            future = loop.create_future()
            with supervisor.lock:
                self._calls.append(partial(call_soon, loop, _wake, future))
                supervisor.watched[key] = self._wake_all
            self._group.report()
            try:
                value = self.next(0)
            except StopIteration:
                supervisor.forget(key)
                self._wake_all()
                raise StopAsyncIteration from None
            except TimeoutError:
                if feed.inline and feed.sent == self._collected:
                    # there is no room, and no task in progress would tell when there is
                    await asyncio.to_thread(feed.wait_to_send, 1.0)
                else:
                    await future
            else:
                if self._ready or feed.ended:
                    self._wake_all()  # other coroutines that use this iterator
                return value

    def _wake_all(self) -> None:
        calls = self._calls  # the same one always: another thread may be adding to it
        while calls:
            with suppress(IndexError):  # another thread has taken the last one
                calls.popleft()()


if TYPE_CHECKING:
    Results = ResultIterator
else:
    Results = {None: ResultIterator}


class UnorderedResultIterator(Results[T], Unordered[T]):
    """The results of `imap_unordered`, as they come."""

    _ordered = False


call_as(ResultIterator, IMapIterator)
call_as(UnorderedResultIterator, IMapUnorderedIterator)


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)
