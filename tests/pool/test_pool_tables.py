"""Results with the numbers of their items, calls with keyword arguments, and maps over the rows of tables."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import numpy
import pytest

import procession as mp
from deadlines import PATIENCE
from procession.pool import Pool, ThreadPool


def square(n):
    return n * n


def last_first(n):
    time.sleep((3 - n) / 20)
    return n * n


def fails_at_two(n):
    if n == 2:
        raise ValueError(n)
    return n


def describe(a, b=0, *, c=0):
    return a, b, c


def doubled(part):
    return part * 2


def total(part):
    return part.sum()


def length(part):
    return len(part)


def first_row(part):
    return part[0]


def of_growing_width(part):
    return numpy.zeros((1, int(part[0]) + 1))


def fails_at_a_slice(part):
    if part[0] == 4:
        raise ValueError("a bad slice")
    return part


@pytest.fixture(params=[Pool, ThreadPool])
def pool(request):
    with request.param(2) as made:
        yield made


# --- enumerate ---


@pytest.mark.parametrize("chunksize", [1, 3])
def test_results_come_with_the_numbers_of_their_items(context, chunksize):
    expected = [(n, n * n) for n in range(20)]
    with context.Pool(2) as pool:
        for items in range(20), (n for n in range(20)):
            assert list(pool.imap(square, items, chunksize, enumerate=True)) == expected
            assert sorted(pool.imap_unordered(square, range(20), chunksize, enumerate=True)) == expected
        assert list(pool.imap(square, range(3), enumerate=False)) == [0, 1, 4]


def test_a_number_tells_of_which_item_an_early_result_is(pool):
    assert dict(pool.imap_unordered(last_first, range(4), enumerate=True)) == {0: 0, 1: 1, 2: 4, 3: 9}


@pytest.mark.parametrize("chunksize", [1, 3])
def test_exceptions_in_places_have_numbers_too(pool, chunksize):
    results = dict(pool.imap_unordered(fails_at_two, range(5), chunksize, enumerate=True, on_error="return"))
    assert isinstance(results.pop(2), ValueError)
    assert results == {0: 0, 1: 1, 3: 3, 4: 4}
    results = pool.imap_unordered(fails_at_two, range(5), enumerate=True)
    found, errors = [], []
    while True:
        try:
            found.append(next(results))
        except ValueError as error:
            errors.append(error.item_index)  # type: ignore[attr-defined]
        except StopIteration:
            break
    assert (sorted(found), errors) == ([(n, n) for n in (0, 1, 3, 4)], [2])


# --- keyword arguments ---


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_dicts_are_the_keyword_arguments_of_calls(context, chunksize):
    items: list[dict[str, Any]] = [{"a": n, "c": -n} for n in range(10)]
    expected = [(n, 0, -n) for n in range(10)]
    with context.Pool(2) as pool:
        assert pool.map_kwargs(describe, items, chunksize) == expected
        assert pool.map_kwargs(describe, iter(items), chunksize) == expected
        assert list(pool.imap_kwargs(describe, items, chunksize or 1)) == expected


def test_a_wrong_keyword_is_the_error_of_its_item(pool):
    with pytest.raises(TypeError, match=r"describe\(\).*'d'") as caught:
        pool.map_kwargs(describe, [{"a": 1}, {"d": 1}], 1)
    assert caught.value.item_index == 1  # type: ignore[attr-defined]
    results = pool.map_kwargs(describe, [{"a": 1}, 3], on_error="return")
    assert results[0] == (1, 0, 0)
    assert isinstance(results[1], TypeError)


# --- rows ---


def test_slices_of_an_array_are_mapped_and_put_together(context):
    table = numpy.arange(42).reshape(21, 2)
    with context.Pool(2) as pool:
        for chunksize in None, 1, 4, 100:
            found = pool.map(doubled, table, chunksize, chunks="rows")
            assert found.dtype == table.dtype
            assert (found == table * 2).all()
        assert pool.map(length, table, 4, chunks="rows") == [4, 4, 4, 4, 4, 1]
        assert len(pool.map(length, table, chunks="rows")) <= 8
        assert sum(pool.map(total, table, chunks="rows")) == table.sum()
        assert pool.map_async(doubled, table, chunks="rows").get(PATIENCE).shape == (21, 2)


def test_threads_map_slices_of_an_array(pool):
    table = numpy.arange(10.0)
    assert (pool.map(doubled, table, 3, chunks="rows") == table * 2).all()


def test_an_empty_table_is_one_empty_slice(pool):
    found = pool.map(doubled, numpy.zeros((0, 3), "f4"), chunks="rows")
    assert (found.shape, found.dtype) == ((0, 3), numpy.float32)


def test_other_results_are_a_list(pool):
    assert pool.map(sorted, [3, 1, 2, 0], 2, chunks="rows") == [[1, 3], [0, 2]]
    rows = pool.map(first_row, numpy.arange(4), 2, chunks="rows")  # numbers are no arrays
    assert [int(row) for row in rows] == [0, 2]


def test_arrays_that_do_not_fit_together_are_an_error(pool):
    with pytest.raises(ValueError, match="dimension"):
        pool.map(of_growing_width, numpy.arange(3), 1, chunks="rows")


def test_on_error_applies_to_slices(pool):
    results = pool.map(fails_at_a_slice, numpy.arange(6), 2, chunks="rows", on_error="return")
    assert [type(part) for part in results] == [numpy.ndarray, numpy.ndarray, ValueError]
    assert results[2].item_index == 2
    with pytest.raises(ValueError, match="a bad slice"):
        pool.map(fails_at_a_slice, numpy.arange(6), 2, chunks="rows")


@pytest.mark.parametrize(
    ("table", "chunks", "error"),
    [
        (iter([1]), "rows", TypeError),
        ({1: 2}, "rows", TypeError),
        ({1, 2}, "rows", TypeError),
        ([1], "cols", ValueError),
    ],
)
def test_what_has_no_rows_is_refused_at_the_call(table, chunks, error):
    with Pool(1) as pool, pytest.raises(error, match="chunks"):
        pool.map(length, table, chunks=chunks)


def test_a_map_over_a_list_imports_neither_numpy_nor_pandas():
    program = (
        "import sys, procession.pool as pool\n"
        "print(pool.ThreadPool(1).map(len, [1, 2, 3], 2, chunks='rows'), {'numpy', 'pandas'} & {*sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-Wignore", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 1] set()\n"


class Frame:
    """Has `iloc`, as a DataFrame has it."""

    def __init__(self, rows):
        self.rows = rows

    @property
    def iloc(self):
        class Located:
            def __getitem__(_, where):
                return Frame(self.rows[where])

        return Located()

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, column):
        raise KeyError(column)

    def __iter__(self):
        return iter(["the names", "of columns"])


def rows_of(frame):
    return list(frame.rows)


def test_the_rows_of_a_frame_are_those_of_its_iloc(pool):
    assert pool.map(rows_of, Frame([1, 2, 3]), 2, chunks="rows") == [[1, 2], [3]]


def test_frames_and_series_of_pandas_are_put_together():
    pandas = pytest.importorskip("pandas", reason="NOT TESTED: pandas is not installed here")
    table = pandas.DataFrame({"a": range(10), "b": list("abcdefghij")}, index=range(100, 110))
    with mp.Pool(2) as pool:
        assert pool.map(doubled, table, 3, chunks="rows").equals(table * 2)
        assert pool.map(doubled, table["a"], 3, chunks="rows").equals(table["a"] * 2)
        assert pool.map(length, table, 3, chunks="rows") == [3, 3, 3, 1]
        assert pool.map(doubled, table.iloc[:0], chunks="rows").equals(table.iloc[:0])
