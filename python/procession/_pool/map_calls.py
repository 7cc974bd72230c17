"""The methods of `Pool` that compute lists: `map`, `starmap` and their variants."""

from __future__ import annotations

from .._arguments import count
from .compat import PoolNames
from .compat_chunks import mapstar, starmapstar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar, Unpack, overload

    from .compat_results import MapResult
    from .option_types import MapOptions, RaisingOptions, ReturningOptions  # pyright: ignore[reportMissingModuleSource]
    from .rows import Slices

    S = TypeVar("S")
    T = TypeVar("T")

__all__ = ["MapCalls"]


class MapCalls(PoolNames):
    """A base class of `Pool`."""

    if TYPE_CHECKING:

        def _map_async(
            self,
            func: Callable[..., Any],
            iterable: Iterable[Any],
            mapper: Callable[..., Any],
            chunksize: int | None = None,
            callback: Callable[[list[Any]], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            **options: Unpack[MapOptions],
        ) -> MapResult[Any]: ...

    if TYPE_CHECKING:

        @overload
        def map(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int | None = None,
            *,
            chunks: None = None,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> list[T | Exception]: ...
        @overload
        def map(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int | None = None,
            *,
            chunks: None = None,
            **options: Unpack[RaisingOptions],
        ) -> list[T]: ...
        @overload
        def map(
            self,
            func: Callable[[S], Any],
            iterable: S,
            chunksize: int | None = None,
            *,
            chunks: Literal["rows"],
            **options: Unpack[MapOptions],
        ) -> Any: ...

    def map(
        self,
        func: Callable[..., Any],
        iterable: Any,
        chunksize: int | None = None,
        *,
        chunks: Literal["rows"] | None = None,
        **options: Unpack[MapOptions],
    ) -> Any:
        """Computes [func(item) for item in iterable] in the workers. Returns the list, in order.

        If calls raise, it waits for all others and then raises the exception of the first one (in the order of the
        input), unless `on_error` says otherwise. `func` and the arguments bound to it (`functools.partial`) are sent
        once.

        Args:
            chunksize: number of items per task. By default large at first and then ever smaller, so that no worker is
                idle at the end; 1 with a `timeout`, and if `on_error` is "return" or "group".
            chunks: "rows": `iterable` is a table: a numpy array, a pandas DataFrame or Series, or a sequence. func gets
                slices of `chunksize` rows; by default there are four slices for each worker. Results that are all
                arrays, all DataFrames or all Series are returned as one; others as their list.
            options: additions to multiprocessing, see `MapOptions`.
        """
        if chunks is not None:
            iterable, chunksize = self._slices(iterable, chunksize, chunks), 1
        return self._map(func, iterable, mapstar, chunksize, options)

    def _slices(self, table: Any, rows: int | None, chunks: str) -> Slices:
        if chunks != "rows":
            raise ValueError(f'chunks must be "rows" or None, not {chunks!r}')
        from .rows import Slices

        return Slices(table, None if rows is None else count("chunksize", rows, 1), self._processes)

    if TYPE_CHECKING:

        @overload
        def map_async(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int | None = None,
            callback: Callable[[list[T | Exception]], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            *,
            chunks: None = None,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> MapResult[T | Exception]: ...
        @overload
        def map_async(
            self,
            func: Callable[[S], T],
            iterable: Iterable[S],
            chunksize: int | None = None,
            callback: Callable[[list[T]], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            *,
            chunks: None = None,
            **options: Unpack[RaisingOptions],
        ) -> MapResult[T]: ...
        @overload
        def map_async(
            self,
            func: Callable[[S], Any],
            iterable: S,
            chunksize: int | None = None,
            callback: Callable[[Any], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            *,
            chunks: Literal["rows"],
            **options: Unpack[MapOptions],
        ) -> MapResult[Any]: ...

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Any,
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        chunks: Literal["rows"] | None = None,
        **options: Unpack[MapOptions],
    ) -> MapResult[Any]:
        """As `map`, but returns a result to wait for, at once. Callbacks are called as in `apply_async`, or in the
        caller's thread if all tasks are done by the time that all of the input was sent."""
        if chunks is not None:
            iterable, chunksize = self._slices(iterable, chunksize, chunks), 1
        return self._map_async(func, iterable, mapstar, chunksize, callback, error_callback, **options)

    if TYPE_CHECKING:

        @overload
        def starmap(
            self,
            func: Callable[..., T],
            iterable: Iterable[Iterable[Any]],
            chunksize: int | None = None,
            *,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> list[T | Exception]: ...
        @overload
        def starmap(
            self,
            func: Callable[..., T],
            iterable: Iterable[Iterable[Any]],
            chunksize: int | None = None,
            **options: Unpack[RaisingOptions],
        ) -> list[T]: ...

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> list[Any]:
        """Computes [func(*item) for item in iterable]. Otherwise as `map`."""
        return self._map(func, iterable, starmapstar, chunksize, options)

    if TYPE_CHECKING:

        @overload
        def starmap_async(
            self,
            func: Callable[..., T],
            iterable: Iterable[Iterable[Any]],
            chunksize: int | None = None,
            callback: Callable[[list[T | Exception]], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            *,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> MapResult[T | Exception]: ...
        @overload
        def starmap_async(
            self,
            func: Callable[..., T],
            iterable: Iterable[Iterable[Any]],
            chunksize: int | None = None,
            callback: Callable[[list[T]], object] | None = None,
            error_callback: Callable[[BaseException], object] | None = None,
            **options: Unpack[RaisingOptions],
        ) -> MapResult[T]: ...

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[MapOptions],
    ) -> MapResult[Any]:
        """As `starmap`, but returns a result to wait for, at once. Callbacks are called as in `map_async`."""
        return self._map_async(func, iterable, starmapstar, chunksize, callback, error_callback, **options)

    if TYPE_CHECKING:

        @overload
        def map_kwargs(
            self,
            func: Callable[..., T],
            iterable: Iterable[Mapping[str, Any]],
            chunksize: int | None = None,
            *,
            on_error: Literal["return"],
            **options: Unpack[ReturningOptions],
        ) -> list[T | Exception]: ...
        @overload
        def map_kwargs(
            self,
            func: Callable[..., T],
            iterable: Iterable[Mapping[str, Any]],
            chunksize: int | None = None,
            **options: Unpack[RaisingOptions],
        ) -> list[T]: ...

    def map_kwargs(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Mapping[str, Any]],
        chunksize: int | None = None,
        **options: Unpack[MapOptions],
    ) -> list[Any]:
        """Computes [func(**item) for item in iterable]. Otherwise as `map`. multiprocessing has no such method."""
        from .keywords import WithKeywords

        return self._map(WithKeywords(func), iterable, mapstar, chunksize, options)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[..., Any],
        chunksize: int | None,
        options: MapOptions,
    ) -> list[Any]:
        made = self._map_async(func, iterable, mapper, chunksize, **options)
        try:
            values: list[Any] = made.get()
        except BaseException:
            # After Ctrl-C, or an exception of another signal handler, the caller has no result that it could cancel.
            if not made.ready():
                made.cancel()
            raise
        return values
