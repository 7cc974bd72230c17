"""The methods of `Pool` that return results as they come: `imap` and its variants."""

from __future__ import annotations

from collections.abc import Sized

from .._arguments import count
from .imap_input import Feed, reads_at_once
from .iterators import ResultIterator, UnorderedResultIterator
from .map_calls import MapCalls
from .options import OfMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar, Unpack, overload
    from weakref import WeakSet

    from .compat_results import IMapIterator
    from .engine import Group
    from .option_types import MapOptions, RaisingOptions, ReturningOptions  # pyright: ignore[reportMissingModuleSource]

    S = TypeVar("S")
    T = TypeVar("T")

__all__ = ["ImapCalls"]


class ImapCalls(MapCalls):
    """A base class of `Pool`."""

    # the inputs that iterators are reading
    _feeds: WeakSet[Feed]
    # makes the group of a call
    _new_group: Callable[..., Group]

    if TYPE_CHECKING:

        def _check_running(self) -> None: ...

    if TYPE_CHECKING:

        @overload
        def imap(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[False] = False,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> IMapIterator[T | Exception]: ...
        @overload
        def imap(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[False] = False,
            **options: Unpack[RaisingOptions],
        ) -> IMapIterator[T]: ...
        @overload
        def imap(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[True],
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> IMapIterator[tuple[int, T | Exception]]: ...
        @overload
        def imap(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[True],
            **options: Unpack[RaisingOptions],
        ) -> IMapIterator[tuple[int, T]]: ...

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        enumerate: bool = False,
        **options: Unpack[MapOptions],
    ) -> IMapIterator[Any]:
        """Returns an iterator over func(item) for the items of iterable, in their order, at once. Also for `async for`.

        The iterator returns results also while the input waits, even if the input waits for these results. After
        `close()` the input is read on; `join()` and dropping the iterator read it to its end.

        Args:
            chunksize: number of items per task.
            buffersize: how many items the input is read ahead of the results that were fetched. By default some per
                worker, and up to 1024 chunks if they are done quickly. (multiprocessing reads all of it at once.)
            enumerate: the iterator returns tuples: the index of the item, and the result.
            options: as for `map`; `next(timeout)` limits the wait for a result.

        Raises:
            ValueError: the pool is closed; `chunksize` or `buffersize` is below 1.
        """
        return self._imap(ResultIterator, func, iterable, chunksize, buffersize, enumerate, options)

    if TYPE_CHECKING:

        @overload
        def imap_unordered(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[False] = False,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> IMapIterator[T | Exception]: ...
        @overload
        def imap_unordered(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[False] = False,
            **options: Unpack[RaisingOptions],
        ) -> IMapIterator[T]: ...
        @overload
        def imap_unordered(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[True],
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> IMapIterator[tuple[int, T | Exception]]: ...
        @overload
        def imap_unordered(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            enumerate: Literal[True],
            **options: Unpack[RaisingOptions],
        ) -> IMapIterator[tuple[int, T]]: ...

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        enumerate: bool = False,
        **options: Unpack[MapOptions],
    ) -> IMapIterator[Any]:
        """As `imap`, in the order in which the results arrive. `enumerate=True` tells whose result each is."""
        return self._imap(UnorderedResultIterator, func, iterable, chunksize, buffersize, enumerate, options)

    if TYPE_CHECKING:

        @overload
        def imap_kwargs(
            self,
            func: Callable[..., T],
            iterable: Iterable[Mapping[str, Any]],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> IMapIterator[T | Exception]: ...
        @overload
        def imap_kwargs(
            self,
            func: Callable[..., T],
            iterable: Iterable[Mapping[str, Any]],
            chunksize: int = 1,
            *,
            buffersize: int | None = None,
            **options: Unpack[RaisingOptions],
        ) -> IMapIterator[T]: ...

    def imap_kwargs(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Mapping[str, Any]],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> IMapIterator[Any]:
        """As `imap`, for func(**item). multiprocessing has no such method."""
        from .keywords import WithKeywords

        call = WithKeywords(func)
        return self._imap(ResultIterator, call, iterable, chunksize, buffersize, False, options)

    def _imap(
        self,
        kind: type[ResultIterator[Any]],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        numbered: bool,
        options: MapOptions,
    ) -> ResultIterator[Any]:
        self._check_running()
        asked = OfMap(self, "imap", options)  # type: ignore[arg-type]
        if numbered:
            asked.numbered = asked.rare = True
        if count("chunksize", chunksize, None) < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None:
            buffersize = count("buffersize", buffersize, 1)
        source, inline = reads_at_once(iterable)
        bar = asked.bar(len(iterable) if isinstance(iterable, Sized) else None)
        return self._iterator(kind, asked, func, False, source, chunksize, buffersize, inline, bar)

    def _iterator(
        self, kind: type[ResultIterator[Any]], asked: OfMap, func: Any, starred: bool, *how: Any
    ) -> ResultIterator[Any]:
        source, chunksize, ahead, inline, bar = how
        call = func
        if asked.rare:
            kind, call = asked.prepared(kind, func, starred, chunksize, bar, self._engine)
        group = self._new_group(call, starred, asked.timeout, asked.retries, False, asked.priority)
        feed = Feed(self, group, source, chunksize, ahead, inline)
        self._feeds.add(feed)
        return kind(self, feed, func, bar)
