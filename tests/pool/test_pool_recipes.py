"""Names of multiprocessing's pool that recipes and progress bars use, and results that are made by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import procession as mp
import procession.pool
from deadlines import PATIENCE, until
from procession.pool import ApplyResult, IMapIterator, IMapUnorderedIterator, MapResult, Pool, ThreadPool, starmapstar


def square(x):
    return x * x


def fail(x):
    raise ValueError(x)


def fail_at_two(x):
    return fail(x) if x == 2 else x


@pytest.fixture(params=["processes", "threads"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    with ThreadPool(2) if request.param == "threads" else mp.get_context("fork").Pool(2) as made:
        yield made


@pytest.fixture
def gate() -> Iterator[Any]:
    """A thread pool's worker waits for it."""
    event = threading.Event()
    yield event
    event.set()


def put(pool: Any, result: Any, tasks: Any) -> None:
    pool._taskqueue.put((tasks, getattr(result, "_set_length", None)))


def test_the_recipe_of_an_istarmap_works(pool):
    batches = Pool._get_tasks(pow, [(x, 2) for x in range(50)], 3)
    result = IMapIterator(pool)
    put(pool, result, pool._guarded_task_generation(result._job, starmapstar, batches))
    assert [value for chunk in result for value in chunk] == [x * x for x in range(50)]
    assert (result._index, result._length) == (17, 17)
    assert not pool._cache


def test_an_unordered_iterator_made_by_hand_gives_what_comes(pool):
    result = IMapUnorderedIterator(pool)
    put(pool, result, pool._guarded_task_generation(result._job, square, range(20)))
    assert sorted(result) == sorted(x * x for x in range(20))


def test_the_input_of_a_recipe_may_raise_and_so_may_its_calls(pool):
    def three():
        yield from (1, 2, 3)
        raise KeyError("four")

    result = IMapIterator(pool)
    put(pool, result, pool._guarded_task_generation(result._job, fail_at_two, three()))
    assert next(result) == 1
    with pytest.raises(ValueError, match="2"):
        next(result)
    assert next(result) == 3
    with pytest.raises(KeyError):
        next(result)
    with pytest.raises(StopIteration):
        next(result)


def test_results_made_by_hand_have_what_their_tasks_came_to(pool):
    got: list[Any] = []
    one = ApplyResult(pool, got.append, None)
    put(pool, one, [(one._job, 0, square, (3,), {})])
    assert one.get(PATIENCE) == 9 and got == [9] and one.successful() and (one._success, one._value) == (True, 9)
    many = MapResult(pool, 2, 5, got.append, None)
    put(
        pool,
        many,
        pool._guarded_task_generation(many._job, procession.pool.mapstar, Pool._get_tasks(square, range(5), 2)),
    )
    assert many.get(PATIENCE) == got[1] == [0, 1, 4, 9, 16] and many._number_left == 0
    bad = MapResult(pool, 1, 3, None, got.append)
    put(
        pool,
        bad,
        pool._guarded_task_generation(bad._job, procession.pool.mapstar, Pool._get_tasks(fail_at_two, range(3), 1)),
    )
    with pytest.raises(ValueError, match="2"):
        bad.get(PATIENCE)
    assert got[2] is bad._value and not bad.successful()


def test_a_recipe_may_bring_the_function_that_does_a_chunk(pool):
    assert pool._map_async(square, range(10), backwards, 5).get(PATIENCE) == [16, 9, 4, 1, 0, 81, 64, 49, 36, 25]
    assert pool._map_async(square, [], backwards).get(PATIENCE) == []


def backwards(args):
    function, items = args
    return [function(item) for item in reversed(items)]


def test_results_made_by_hand_can_be_awaited(pool):
    async def all_of_it() -> list[Any]:
        one, many = ApplyResult(pool, None, None), IMapIterator(pool)
        put(pool, one, [(one._job, 0, square, (3,), {})])
        put(pool, many, pool._guarded_task_generation(many._job, square, range(4)))
        return [await one, *[value async for value in many]]

    assert asyncio.run(all_of_it()) == [9, 0, 1, 4, 9]


def test_what_was_put_by_hand_is_done_before_a_closed_pool_ends():
    pool = mp.get_context("fork").Pool(2)
    result = IMapIterator(pool)
    put(pool, result, pool._guarded_task_generation(result._job, square, iter(range(200))))
    pool.close()
    pool.join()
    assert list(result) == [x * x for x in range(200)]


def test_who_waits_for_tasks_put_by_hand_is_told_when_the_pool_is_terminated(gate):
    def endless():
        number = 0
        while True:
            yield number
            number += 1

    pool = ThreadPool(1)
    stuck = pool.apply_async(gate.wait)
    result = IMapIterator(pool)
    put(pool, result, pool._guarded_task_generation(result._job, square, endless()))
    until(lambda: pool._taskqueue.sent)
    pool.terminate()
    with pytest.raises(mp.PoolBrokenError):
        while True:
            result.next(PATIENCE)
    gate.set()
    with pytest.raises(mp.PoolBrokenError):
        stuck.get(PATIENCE)
    until(lambda: pool._taskqueue._batches == pool._taskqueue.sent or not pool._taskqueue._running)


def test_the_numbers_of_a_map_fall_to_nothing_as_its_tasks_are_done(gate):
    with ThreadPool(1) as pool:
        result = pool.map_async(lambda x: gate.wait() and x, range(10), chunksize=3)
        assert (result._number_left, result._chunksize, result.ready()) == (4, 3, False)
        assert result._success and result._value == [None] * 10
        assert not result._event.is_set() and not result._event.wait(0)
        gate.set()
        assert result._event.wait(PATIENCE)
        assert (result._number_left, result._value, result._success) == (0, list(range(10)), True)


def test_a_map_without_a_chunksize_tells_its_average(pool):
    result = pool.map_async(square, range(100))
    result.wait(PATIENCE)
    assert 1 <= result._chunksize <= 100 and result._number_left == 0
    assert pool.map_async(square, [])._chunksize == 0


def test_a_partial_result_of_a_map_can_be_looked_at(gate):
    with ThreadPool(1) as pool:
        result = pool.map_async(lambda x: x if x < 3 else gate.wait(), range(6), chunksize=1)
        until(lambda: result._value[:3] == [0, 1, 2])
        assert result._value[3:] == [None] * 3


def test_a_result_has_the_names_that_its_twin_has(gate):
    with ThreadPool(1) as pool:
        result = pool.apply_async(gate.wait)
        for name in ("_success", "_value"):
            assert not hasattr(result, name)
        assert not result._event.is_set() and result._cache is pool._cache
        assert result._job == result._job != pool.apply_async(square, (2,))._job
        gate.set()
        result.wait(PATIENCE)
        assert (result._success, result._value, result._event.is_set()) == (True, True, True)
        failed = pool.apply_async(fail, (1,))
        failed.wait(PATIENCE)
        assert not failed._success and isinstance(failed._value, ValueError)


def test_an_iterator_tells_how_far_it_is(pool):
    results = pool.imap(square, range(10))
    assert next(results) == 0
    assert 1 <= results._index <= 10
    assert list(results) == [x * x for x in range(1, 10)]
    assert (results._index, results._length) == (10, 10)


def test_the_cache_and_the_queue_of_a_pool_count_what_is_under_way(gate):
    with ThreadPool(1) as pool:
        assert not pool._cache and pool._taskqueue.qsize() == 0 and pool._taskqueue.empty()
        results = [pool.apply_async(gate.wait), pool.apply_async(square, (2,)), pool.map_async(square, range(9), 1)]
        until(lambda: pool._taskqueue.qsize() == 10)
        assert len(pool._cache) == 3 and not pool._taskqueue.empty()
        gate.set()
        until(lambda: not pool._cache)
        assert [result.get(PATIENCE) for result in results][1] == 4


def test_the_cache_of_a_pool_of_processes_counts_jobs():
    with mp.get_context("fork").Pool(1) as pool:
        lock = mp.Lock()
        with lock:
            results = [pool.apply_async(_with, (lock,)), pool.map_async(square, range(9), 1)]
            until(lambda: pool._taskqueue.qsize() == 9)
            assert len(pool._cache) == 2
        until(lambda: all(result.ready() for result in results))
        assert not pool._cache


def _with(lock: Any) -> None:
    with lock:
        pass


def test_a_pool_has_the_threads_that_look_after_it_under_their_names(pool):
    for name in ("_worker_handler", "_task_handler", "_result_handler"):
        assert getattr(pool, name).is_alive()


def test_subclasses_of_a_result_may_have_names_of_their_own():
    class Wrapped(procession.pool.AsyncResult):
        def __init__(self, result):
            self._result = result
            self._value = self._event = self._job = None

        @property
        def _number_left(self):
            return 7

    made = Wrapped(None)
    assert (made._number_left, made._value, made._event, made._job) == (7, None, None, None)


def test_results_of_a_pool_are_instances_of_what_the_module_names():
    with ThreadPool(1) as pool:
        found = [
            pool.apply_async(square, (1,)),
            pool.map_async(square, [1]),
            pool.imap(square, [1]),
            pool.imap_unordered(square, [1]),
        ]
        names = ["ApplyResult", "MapResult", "IMapIterator", "IMapUnorderedIterator"]
        assert [type(result).__name__ for result in found] == names
        assert all(
            isinstance(result, getattr(procession.pool, name)) for result, name in zip(found, names, strict=True)
        )
        assert isinstance(found[1], procession.pool.AsyncResult) and isinstance(found[3], IMapIterator)
