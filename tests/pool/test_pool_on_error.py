"""`on_error`: what becomes of the exceptions of many calls."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.futures import WorkerDiedError as ExecutorWorkerDiedError
from procession.pool import Pool, ThreadPool

CHUNKS = [None, 1, 4]


def fifth(n):
    """Fails for each fifth item, from 3 on."""
    if n % 5 == 3:
        raise ValueError(n)
    return n


def fifth_of_two(n, m):
    assert n == m
    return fifth(n)


def fails_or_dies(n):
    if n == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return fifth(n)


def returns_an_exception(n):
    return ValueError(n)


def returns_what_cannot_be_sent(n):
    return threading.Lock() if n == 2 else n


def raises_stop_iteration(n):
    if n == 1:
        raise StopIteration(n)
    return n


def is_interrupted(n):
    if n == 2:
        raise KeyboardInterrupt
    return n


def fails_while_others_run(folder, n):
    """Item 0 fails when item 1 runs; all others take for ever."""
    Path(folder, str(n)).touch()
    if n == 0:
        until(Path(folder, "1").exists)
        raise ValueError(n)
    time.sleep(1000)


def fails_as_others_wait(folder, n):
    """Item 0 fails when item 1 runs, which takes until there is a file."""
    Path(folder, str(n)).touch()
    if n == 0:
        until(Path(folder, "1").exists)
        raise ValueError(n)
    until(Path(folder, "go").exists)
    return n


def shown(results):
    return [(type(value).__name__, *value.args) if isinstance(value, Exception) else value for value in results]


EXPECTED = [("ValueError", n) if n % 5 == 3 else n for n in range(20)]


def check_lists(pool, chunksize):
    """All kinds of `map` with each `on_error` but "stop"."""
    returned = pool.map(fifth, range(20), chunksize, on_error="return")
    assert shown(returned) == EXPECTED
    assert shown(pool.map(fifth, iter(range(20)), chunksize, on_error="return")) == EXPECTED
    pairs = [(n, n) for n in range(20)]
    assert shown(pool.starmap(fifth_of_two, pairs, chunksize, on_error="return")) == EXPECTED
    assert shown(pool.map_async(fifth, range(20), chunksize, on_error="return").get(PATIENCE)) == EXPECTED
    assert pool.map(fifth, range(3), chunksize, on_error="return") == [0, 1, 2]
    assert pool.map(fifth, [], chunksize, on_error="return") == []
    assert returned[8].item_index == 8
    for method, items, function in ("map", range(20), fifth), ("starmap", pairs, fifth_of_two):
        with pytest.raises(ExceptionGroup, match=rf"4 of 20 calls of {function.__name__}\(\) failed") as caught:
            getattr(pool, method)(function, items, chunksize, on_error="group")
        assert [(type(one), one.item_index) for one in caught.value.exceptions] == [
            (ValueError, n) for n in (3, 8, 13, 18)
        ]
    assert pool.map(fifth, range(3), chunksize, on_error="group") == [0, 1, 2]
    assert pool.map(fifth, [], chunksize, on_error="group") == []
    with pytest.raises(ValueError, match="3") as first:
        pool.map(fifth, range(20), chunksize, on_error="raise")
    assert first.value.item_index == 3
    with pytest.raises(ValueError):
        pool.map(fifth, range(20), chunksize, on_error="stop")
    assert pool.map(fifth, range(3), chunksize, on_error="stop") == [0, 1, 2]
    assert pool.map(fifth, [], chunksize, on_error="stop") == []


def check_iterators(pool, chunksize):
    for method in "imap", "imap_unordered":
        call = getattr(pool, method)
        for items in range(20), (n for n in range(20)):
            in_order = sorted if method == "imap_unordered" else list
            key = {"key": str} if method == "imap_unordered" else {}
            assert in_order(shown(call(fifth, items, chunksize, on_error="return")), **key) == in_order(EXPECTED, **key)
        results = call(fifth, range(20), chunksize, on_error="group")
        assert sorted(next(results) for _ in range(16)) == [n for n in range(20) if n % 5 != 3]
        with pytest.raises(ExceptionGroup) as caught:
            next(results)
        assert [one.item_index for one in caught.value.exceptions] == [3, 8, 13, 18]
        assert list(results) == []
        assert sorted(call(fifth, range(3), chunksize, on_error="group")) == [0, 1, 2]
        results = call(fifth, (n for n in range(20)), chunksize, on_error="stop")
        with pytest.raises(ValueError):
            for value in results:
                assert value % 5 != 3
        assert list(results) == []


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_exceptions_are_returned_in_their_places_or_raised_as_a_group(context, chunksize):
    with context.Pool(2) as pool:
        check_lists(pool, chunksize)
        check_iterators(pool, chunksize or 1)


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_threads_return_exceptions_as_processes_do(chunksize):
    with ThreadPool(2) as pool:
        check_lists(pool, chunksize)
        check_iterators(pool, chunksize or 1)


class Foreign(Pool):
    """Has queues of its own, as multiprocessing's pool has them."""

    def _setup_queues(self):
        self._inqueue, self._outqueue = self._ctx.SimpleQueue(), self._ctx.SimpleQueue()
        self._quick_put, self._quick_get = self._inqueue.put, self._outqueue.get


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_a_pool_with_its_own_queues_returns_exceptions_as_others_do(chunksize):
    with Foreign(2) as pool:
        check_lists(pool, chunksize)
        check_iterators(pool, chunksize or 1)


def test_an_exception_that_is_returned_has_its_traceback_and_its_item(context):
    with context.Pool(1) as pool:
        for chunksize in 1, 4:
            error = pool.map(fifth, range(4), chunksize, on_error="return")[3]
            assert "in fifth" in str(error.__cause__)
            assert error.__notes__ == ["raised by the call for item 3: 3"]


def test_an_executor_takes_on_error_too(context):
    for chunksize in 1, 4:
        with ProcessPoolExecutor(2, context) as executor:
            run = lambda function, how: executor.map(function, range(20), chunksize=chunksize, on_error=how)  # noqa: B023, E731
            assert shown(run(fifth, "return")) == EXPECTED
            results = run(fifth, "group")
            assert [next(results) for _ in range(16)] == [n for n in range(20) if n % 5 != 3]
            with pytest.raises(ExceptionGroup):
                next(results)
            with pytest.raises(StopIteration):
                next(results)
            with pytest.raises(ValueError):
                list(run(fifth, "stop"))
            with pytest.raises(ValueError, match="3"):
                list(run(fifth, "raise"))
            died = [value for value in run(fails_or_dies, "return") if isinstance(value, mp.WorkerDiedError)]
            assert len(died) == chunksize
            assert {type(error) for error in died} == {ExecutorWorkerDiedError}


def test_an_item_that_kills_its_worker_takes_no_other_item_along(context):
    with context.Pool(2) as pool:
        for results in (
            pool.map(fails_or_dies, range(10), on_error="return"),
            list(pool.imap(fails_or_dies, range(10), on_error="return")),
        ):
            died = results[6]
            assert isinstance(died, mp.WorkerDiedError)
            assert (died.item_index, died.task, died.exitcode) == (6, 6, -9)
            assert shown(results[:6] + results[7:]) == EXPECTED[:6] + EXPECTED[7:10]
        with pytest.raises(ExceptionGroup) as caught:
            pool.map(fails_or_dies, range(10), on_error="group")
        assert [one.item_index for one in caught.value.exceptions] == [3, 6, 8]


def test_all_items_of_a_chunk_fail_if_one_of_them_kills_the_worker():
    with Pool(2) as pool:
        for results in (
            pool.map(fails_or_dies, range(10), 4, on_error="return"),
            list(pool.imap(fails_or_dies, range(10), 4, on_error="return")),
        ):
            assert [n for n, value in enumerate(results) if isinstance(value, mp.WorkerDiedError)] == [4, 5, 6, 7]
            assert [value.item_index for value in results[4:8]] == [4, 5, 6, 7]
            assert {value.task for value in results[4:8]} == {6}
            assert shown(results[8:]) == EXPECTED[8:10]


def test_the_last_chunk_that_is_lost_has_as_many_exceptions_as_items():
    with Pool(2) as pool:
        results = list(pool.imap(fails_or_dies, (n for n in range(7)), 4, on_error="return"))
    assert [getattr(value, "item_index", None) for value in results] == [None, None, None, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
@pytest.mark.parametrize("chunksize", CHUNKS)
def test_an_exception_that_a_function_returns_is_a_value(kind, chunksize):
    with kind(2) as pool:
        values = pool.map(returns_an_exception, range(3), chunksize, on_error="group")
        assert shown(values) == [("ValueError", n) for n in range(3)]
        assert shown(pool.imap(returns_an_exception, range(3), chunksize or 1, on_error="group")) == shown(values)


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_stop_iteration_is_an_exception_like_others(chunksize):
    with Pool(2) as pool:
        results = pool.map(raises_stop_iteration, range(4), chunksize, on_error="return")
    assert [type(value) for value in results] == [int, StopIteration, int, int]


def test_what_cannot_be_sent_fails_in_its_place():
    items = [0, 1, threading.Lock(), 3]
    with Pool(2) as pool:
        results = pool.map(fifth_or_lock, items, on_error="return")
        assert [isinstance(value, Exception) for value in results] == [False, False, True, True]
        assert results[2].item_index == 2
        results = list(pool.imap(fifth_or_lock, iter(items), on_error="return"))
        assert [isinstance(value, Exception) for value in results] == [False, False, True, True]
        results = pool.map(returns_what_cannot_be_sent, range(4), on_error="return")
        assert [isinstance(value, Exception) for value in results] == [False, False, True, False]


def fifth_or_lock(n):
    return fifth(n)


@pytest.mark.parametrize("how", ["return", "group", "stop"])
@pytest.mark.parametrize("chunksize", CHUNKS)
def test_an_interrupted_task_interrupts_the_caller_whatever_on_error_says(how, chunksize):
    with Pool(2) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(is_interrupted, range(4), chunksize, on_error=how)
        with pytest.raises(KeyboardInterrupt):
            list(pool.imap(is_interrupted, range(4), chunksize or 1, on_error=how))


@pytest.mark.parametrize("how", ["return", "group", "stop"])
def test_an_exception_of_the_input_is_raised_whatever_on_error_says(how):
    class Bad(list):
        def __iter__(self):
            yield 0
            raise LookupError

    with Pool(1) as pool:
        with pytest.raises(LookupError):
            pool.map(fifth, Bad([0, 1]), on_error=how)
        results = pool.imap(fifth, iter(Bad([0, 1])), on_error=how)
        assert next(results) == 0
        with pytest.raises(LookupError):
            next(results)


@pytest.mark.parametrize("how", ["return", "group", "stop"])
@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_a_call_that_is_cancelled_or_whose_pool_ends_raises_that(kind, how, tmp_path):
    with kind(1) as pool:
        pool.apply_async(wait_for, (str(tmp_path / "go"),))
        result = pool.map_async(fifth, range(4), on_error=how)
        assert result.cancel()
        with pytest.raises(CancelledError):
            result.get(PATIENCE)
        results = pool.imap(fifth, range(4), on_error=how)
        pool.cancel_all()
        with pytest.raises(CancelledError):
            results.next(PATIENCE)
        pool.apply_async(wait_for, (str(tmp_path / "go"),))
        result = pool.map_async(fifth, range(4), on_error=how)
        pool.terminate()
        with pytest.raises(mp.PoolBrokenError):
            result.get(PATIENCE)
        (tmp_path / "go").touch()


def wait_for(path):
    until(Path(path).exists)


class For:
    """A function with a folder."""

    def __init__(self, function, folder):
        self.function, self.folder = function, str(folder)

    def __call__(self, n):
        return self.function(self.folder, n)


@pytest.mark.parametrize("method", ["map", "map_async", "imap", "imap_unordered", "executor"])
def test_stop_ends_the_calls_that_run_and_those_that_wait(context, method, tmp_path):
    call = For(fails_while_others_run, tmp_path)
    if method == "executor":
        with ProcessPoolExecutor(2, context) as executor:
            with pytest.raises(ValueError):
                list(executor.map(call, range(50), on_error="stop"))
            assert executor.submit(fifth, 1).result(PATIENCE) == 1
    else:
        with context.Pool(2) as pool:
            if method == "map":
                with pytest.raises(ValueError):
                    pool.map(call, range(50), 1, on_error="stop")
            elif method == "map_async":
                result = pool.map_async(call, range(50), 1, on_error="stop")
                until(result.ready)  # nothing waits for it
                assert not result.successful()
            else:
                with pytest.raises(ValueError):
                    next(getattr(pool, method)(call, range(50), on_error="stop"))
            assert pool.map(fifth, range(3)) == [0, 1, 2]
            until(lambda: pool._engine.pending == 0)
    assert {int(path.name) for path in tmp_path.iterdir()} <= {0, 1, 2}


@pytest.mark.parametrize("method", ["map", "imap"])
def test_stop_in_threads_ends_the_calls_that_have_not_begun(method, tmp_path):
    call = For(fails_as_others_wait, tmp_path)
    with ThreadPool(2) as pool:
        with pytest.raises(ValueError):
            if method == "map":
                pool.map(call, range(50), 1, on_error="stop")
            else:
                next(pool.imap(call, range(50), on_error="stop"))
        (tmp_path / "go").touch()
        assert pool.map(fifth, range(3)) == [0, 1, 2]
    assert {int(path.name) for path in tmp_path.iterdir() if path.name != "go"} <= {0, 1, 2}


def test_stop_reads_no_more_of_the_input(tmp_path):
    read = []

    def numbers():
        for n in range(100000):
            read.append(n)
            yield n

    with Pool(2) as pool:
        results = pool.imap(fifth, numbers(), on_error="stop")
        with pytest.raises(ValueError):
            list(results)
        count = until(lambda: results._feed.ended and len(read))
        assert count < 50000
        until(lambda: pool._engine.pending == 0)


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_callbacks_get_what_get_returns_or_raises(kind):
    come: list[object] = []
    with kind(2) as pool:
        for how in "return", "group", "stop":
            pool.map_async(fifth, range(5), 1, come.append, come.append, on_error=how).wait(PATIENCE)
    assert shown(come[0]) == EXPECTED[:5]
    assert isinstance(come[1], ExceptionGroup)
    assert isinstance(come[2], ValueError)


def test_results_with_exceptions_can_be_awaited():
    async def main(pool):
        assert shown(await pool.map_async(fifth, range(20), on_error="return")) == EXPECTED
        found = [value async for value in pool.imap(fifth, range(20), 4, on_error="return")]
        assert shown(found) == EXPECTED
        with pytest.raises(ValueError):
            await pool.map_async(fifth, range(20), on_error="stop")

    with Pool(2) as pool:
        asyncio.run(main(pool))


def test_a_wrong_on_error_is_refused_at_the_call():
    with Pool(1) as pool:
        for call in pool.map, pool.imap:
            with pytest.raises(ValueError, match="on_error must be one of"):
                call(fifth, range(3), on_error="ignore")
        with pytest.raises(TypeError, match="on_eror"):
            pool.map(fifth, range(3), on_eror="stop")
