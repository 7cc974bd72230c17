"""A `map` over the rows of a table (`chunks="rows"`): the input in slices, and the results put back together."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Slices"]


class Slices:
    """The slices of a table, as the items of a `map`. A slice of an array is a view, so nothing is copied here."""

    def __init__(self, table: Any, size: int | None, workers: int) -> None:
        """size: rows per slice; None: four slices for each worker.

        Raises:
            TypeError: `table` has no length or no slices.
        """
        rows = getattr(table, "iloc", table)  # of pandas
        if not hasattr(table, "__len__") or not hasattr(rows, "__getitem__") or isinstance(table, dict):
            raise TypeError(f'chunks="rows" needs an array, a DataFrame or a sequence, not {type(table).__name__}')
        self._rows = rows
        self._length = len(table)
        self._size = size or max(1, -(-self._length // (4 * workers)))

    def __len__(self) -> int:
        # an empty table is one empty slice, so that the result has the type that it has otherwise
        return max(1, -(-self._length // self._size))

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, max(1, self._length), self._size):
            yield self._rows[start : start + self._size]

    def _procession_join(self, results: list[Any]) -> Any:
        """Returns arrays as one array, DataFrames and Series as one, and other results as their list."""
        # a module of which there are results is imported
        numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
        if numpy is not None and all(isinstance(part, numpy.ndarray) and part.ndim for part in results):
            return numpy.concatenate(results)
        if pandas is not None:
            for kind in pandas.DataFrame, pandas.Series:
                if all(isinstance(part, kind) for part in results):
                    return pandas.concat(results)
        return results
