"""A job whose input is still being read, or cannot be sent, while its first tasks are done already."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE
from procession.pool import Pool, ThreadPool


def same(x):
    return x


def stops_at_three(x):
    if x == 3:
        raise StopIteration
    return x


class Slow:
    """Items that take so long to read that those before are done meanwhile."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Any:
        for item in self.items:
            time.sleep(0.05)
            if item is None:
                raise OSError("the input is damaged")
            yield item


@pytest.fixture(params=[Pool, ThreadPool])
def pool(request):
    with request.param(2) as made:
        yield made


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_a_job_is_not_done_before_all_of_its_input_is_read(pool, chunksize):
    told: list[Any] = []
    result = pool.map_async(same, Slow(list(range(8))), chunksize, callback=told.append)
    assert result.get(PATIENCE) == list(range(8))
    assert told == [list(range(8))]


def test_an_input_that_fails_when_all_before_is_done_is_told(pool):
    told: list[Any] = []
    result = pool.map_async(same, Slow([1, 2, None]), 1, error_callback=told.append)
    with pytest.raises(OSError, match="damaged"):
        result.get(PATIENCE)
    assert len(told) == 1


def test_a_job_of_which_nothing_can_be_sent_is_told():
    told: list[Any] = []
    with mp.Pool(1) as pool:
        result = pool.map_async(same, [threading.Lock()] * 2, error_callback=told.append)
        with pytest.raises(TypeError, match="pickle"):
            result.get(PATIENCE)
        assert len(told) == 1


def test_a_call_that_could_not_be_sent_cannot_be_cancelled():
    with mp.Pool(1) as pool:
        assert not pool.apply_async(same, (threading.Lock(),)).cancel()


def test_a_call_that_raises_stop_iteration_loses_no_values_of_others():
    with mp.Pool(1) as pool:
        with pytest.raises(StopIteration):
            pool.map(stops_at_three, range(8), 4)
        values = pool.imap(stops_at_three, range(8), 4)
        assert next(values, "stopped") == "stopped"
        assert list(values) == [4, 5, 6, 7]


INPUTS = {
    "a range": range(3, 1000),
    "a range downwards": range(1000, -1000, -7),
    "a range of big numbers": range(10**30, 10**30 + 100 * 10**20, 10**20),
    "an empty range": range(0),
    "a list": [n / 2 for n in range(500)],
    "a list of several types": [1, "two", None, 4.0, (5,), 2**70] * 20,
    "a tuple": tuple(range(100)),
    "an iterator": map(abs, range(-100, 100)),
}


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 5000])
@pytest.mark.parametrize("kind", INPUTS)
def test_a_map_reads_each_item_of_its_input_once_and_in_order(pool, kind, chunksize):
    items = list(INPUTS[kind]) if kind == "an iterator" else INPUTS[kind]
    given = iter(items) if kind == "an iterator" else items
    assert pool.map(same, given, chunksize) == list(items)


@pytest.mark.parametrize("chunksize", [1, 2, 3])
def test_an_item_of_a_list_that_cannot_be_sent_does_not_shift_the_others(chunksize):
    lock = threading.Lock()
    items = [0, 1, 2, 3, lock, 5, 6, 7, 8]
    with Pool(2) as pool:
        lost = items[items.index(lock) // chunksize * chunksize :][:chunksize]
        returned = pool.map(same, items, chunksize, on_error="return")
        assert [type(value) if isinstance(value, Exception) else value for value in returned] == [
            TypeError if item in lost else item for item in items
        ]


def test_a_list_that_shrinks_while_it_is_read_has_fewer_results():
    class Shrinks:
        def __reduce__(self):
            del items[4:]
            return int, (0,)

    items: list[Any] = [1, Shrinks(), 2, 3, 4, 5, 6, 7]
    with Pool(2) as pool:
        assert pool.map(same, items, 1)[:4] == [1, 0, 2, 3]
