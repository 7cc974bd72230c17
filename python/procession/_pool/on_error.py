"""Results of `map` and `imap` if the caller has chosen what becomes of exceptions (`on_error`), or wants numbers.

| on_error | `map`                                  | `imap`                                            |
| -------- | -------------------------------------- | ------------------------------------------------- |
| "stop"   | the first failure to come is raised    | the same; then the iterator ends                  |
| "return" | exceptions are in the places of values | exceptions are handed out like values             |
| "group"  | an ExceptionGroup of all is raised     | values are handed out; the group is raised last   |

Failures that are of no item in particular are raised as themselves in any case: the pool was terminated or is broken,
the call was cancelled, the input has raised, a task was interrupted.
"""

from __future__ import annotations

import time
from functools import partial

from .._start.exit_report import set_cause
from .compat_results import IMapIterator, IMapUnorderedIterator, MapResult
from .errors import error_of, mark_item, name_of
from .iterators import ResultIterator
from .per_item import Caught, Raised, in_process
from .results import ResultList, call_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    List = ResultList
    Results = ResultIterator
    Unordered = IMapUnorderedIterator
else:
    # type arguments are for type checkers alone: the bases are those without them
    T, List, Results, Unordered = None, {None: ResultList}, {None: ResultIterator}, {None: IMapUnorderedIterator}

__all__ = ["ItemIterator", "kind_of", "wrapped"]

_OF_CALL = ("cancelled", "abandoned")  # outcomes of the engine that are of no item in particular
_MISSING = object()  # in the place of an item that is not done


def wrapped(
    func: Callable[..., Any], on_error: str, starred: bool, chunk: int | None, engine: Any
) -> Callable[..., Any]:
    """Returns what workers call. A task of one item needs no wrapper: its failure is that of the item."""
    if chunk == 1 or on_error not in ("return", "group"):
        return func
    describer = getattr(engine, "describer", None)
    return Caught(func, starred, in_process if describer is None else describer())


def kind_of(kind: Any, on_error: str, numbered: bool) -> Any:
    """Returns what makes the result of a `map_async` or an `imap` in place of a class. numbered: for `imap`."""
    if kind is ResultList:
        return {"return": _ReturnList, "group": _GroupList, "stop": _StopList}[on_error]
    return partial(ItemIterator if kind._ordered else UnorderedItemIterator, on_error=on_error, numbered=numbered)


def _is_of_item(what: tuple[Any, ...], error: BaseException) -> bool:
    return what[0] not in _OF_CALL and isinstance(error, Exception)


def _for_item(error: BaseException, index: int, first: int) -> BaseException:
    """Returns the error for an item of a task that has failed as a whole. first: the index of the first item."""
    if index != first:  # each item has an exception of its own
        from copy import copy

        try:
            made = copy(error)
            if error.__cause__ is not None:
                set_cause(made, error.__cause__)
            error = made
        except Exception:  # the class cannot be copied, so the items share one
            return error
    mark_item(error, index)
    return error


def _raised(value: Raised, index: int) -> BaseException:
    """Returns the exception of an item that `Caught` has caught."""
    if value.what[0] == "exception":  # of a thread
        from .errors import note_item

        _, error, item = value.what
        note_item(error, index, item)
    else:
        error = error_of(value.what, "", index, None)
    mark_item(error, index)
    found: BaseException = error
    return found


def _group_of(errors: list[BaseException], done: int, function: Any) -> BaseException:
    return BaseExceptionGroup(f"{len(errors)} of {done} calls of {name_of(function)}() failed", errors)


# --- lists ---


class _ReturnList(List[T]):
    """The result with `on_error="return"`."""

    def __init__(self, pool: Any, function: Any, length: int, *how: Any) -> None:
        self._of_items: dict[int, BaseException] = {}  # failures of whole tasks, by the index of the first item
        self._errors: list[BaseException] = []
        super().__init__(pool, function, length, *how)
        if length:
            self._values = [_MISSING] * length

    def _fail(self, index: int, error: BaseException, of_item: bool = True) -> None:
        if of_item and isinstance(error, Exception):
            self._of_items[index] = error
        else:
            super()._fail(index, error)

    def _finish(self) -> None:
        if self._failure is None:
            self._put_in_places()
        super()._finish()

    def _put_in_places(self) -> None:
        """Puts the exceptions into their places. A failure is that of all items of its task, up to the next value."""
        values, errors = self._values, self._errors
        first = 0
        for index, value in enumerate(values):
            if index in self._of_items:
                first = index
            if value is _MISSING:
                error = _for_item(self._of_items[first], index, first)
            elif type(value) is Raised:
                error = _raised(value, index)
            else:
                continue
            values[index] = error
            errors.append(error)


class _GroupList(_ReturnList[T]):
    """The result with `on_error="group"`."""

    def _put_in_places(self) -> None:
        super()._put_in_places()
        if self._errors:
            self._failure = 0, _group_of(self._errors, self._length, self._function)


class _StopList(List[T]):
    """The result with `on_error="stop"`. The supervisor tells it of each outcome, so that it stops at once."""

    _watches = True
    stopped = False

    def _reading(self, items: Any) -> Iterator[Any]:
        for item in items:
            if self.stopped:
                return
            yield item

    def _fail(self, index: int, error: BaseException, of_item: bool = True) -> None:
        if not self.stopped:
            self._failure = index, error
            self.stopped, self._complete = True, False

    def _tell(self) -> None:
        with self._lock:
            while self._outcome is None and not self.stopped and self._group.progress()[1]:
                self._gather(0)
            if self._outcome is None and self.stopped:
                self._finish()
        super()._tell()

    def _call_back(self) -> None:
        if self.stopped:
            self._give_up_rest()
        super()._call_back()

    def _submitted(self) -> None:
        super()._submitted()
        if self.stopped:
            self._give_up_rest()

    def _give_up_rest(self) -> None:
        """Gives up what was submitted. `_reading` ends the rest of the input."""
        self._group.forget()
        self._group.cancel()


# --- iterators ---


class ItemIterator(Results[T]):
    """An iterator whose `_ready` has an entry for each item."""

    # set by the pool
    on_error = "raise"
    numbered = False
    _stopped = False
    _errors: list[BaseException] | None = None

    def __init__(self, *of: Any, on_error: str, numbered: bool) -> None:
        """of: the arguments of the base class. numbered: whether each result comes with the index of its item."""
        super().__init__(*of)
        self.on_error = on_error
        self.numbered = numbered

    def _arrived(self, number: int, success: bool, value: Any) -> None:
        if success:
            super()._arrived(number, success, value)
            return
        error = error_of(value, name_of(self._function), number, self._pool._supervisor.broken)
        feed = self._feed
        while feed.fed <= number and not feed.ended:  # the thread that reads the input is about to count the task
            time.sleep(0)
        items = max(1, min(self._chunk, feed.fed - number))
        if _is_of_item(value, error):
            self._came(number, False, error, items)
        else:
            super()._came(number, None, [(False, self.converted(error), items)], items)

    def _came(self, number: int, success: bool | None, value: Any, items: int) -> None:
        if self._stopped:
            return
        outcomes: list[tuple[bool | None, Any, int]]
        if success is False:
            outcomes = self._failed(number, value, items)
        else:
            values = value if success is None else [value]
            outcomes = [self._done(index, one) for index, one in enumerate(values, number)]
        if not self._stopped:
            super()._came(number, None, outcomes, items)

    def _done(self, index: int, value: Any) -> tuple[bool | None, Any, int]:
        if type(value) is Raised:
            return self._error(index, _raised(value, index))
        return True, (index, value) if self.numbered else value, 1

    def _failed(self, first: int, error: BaseException, items: int) -> list[tuple[bool | None, Any, int]]:
        """Returns the outcomes of the items of a task that has failed as a whole."""
        if self.on_error in ("raise", "stop"):
            if getattr(error, "item_index", None) is None:
                mark_item(error, first)
            if self.on_error == "stop":
                self._stop(error)
            return [(False, self.converted(error), items)]
        return [self._error(index, _for_item(error, index, first)) for index in range(first, first + items)]

    def _error(self, index: int, error: BaseException) -> tuple[bool | None, Any, int]:
        error = self.converted(error)
        if self.on_error == "group":
            return None, error, 1
        return True, (index, error) if self.numbered else error, 1

    def _give(self, success: bool | None, value: Any, items: int) -> None:
        for outcome in value:
            if outcome[0] is not None:
                self._ready.append(outcome)
                continue
            if self._errors is None:
                self._errors = []
            self._errors.append(outcome[1])
            self._feed.given += 1

    def _stop(self, error: BaseException) -> None:
        self._stopped = True
        self._early.clear()
        self._feed.stop()
        self._group.forget()
        self._group.cancel()
        self._ready.append((False, self.converted(error), 0))

    def _take(self, timeout: float | None) -> tuple[bool, Any]:
        if self._stopped and not self._ready:
            if self._bar is not None:
                self._bar.close()
            raise StopIteration
        try:
            return super()._take(timeout)
        except StopIteration:
            errors, self._errors = self._errors, None
            if not errors:
                raise
            errors.sort(key=lambda error: getattr(error, "item_index", 0))
            return False, _group_of(errors, self._feed.fed, self._function)


class UnorderedItemIterator(ItemIterator[T], Unordered[T]):
    _ordered = False


call_as(_ReturnList, MapResult)
call_as(_GroupList, MapResult)
call_as(_StopList, MapResult)
call_as(ItemIterator, IMapIterator)
call_as(UnorderedItemIterator, IMapUnorderedIterator)
