"""Options of pools with exceptions, functions and values that are out of the ordinary."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import sys
import time

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception that takes no attributes."""

    number: int = 0

    def __reduce__(self):
        return Frozen, (self.number,)


def frozen_at_two(n):
    if n == 2:
        raise Frozen(n)
    return n


def error_at_three_or_death_at_one(n):
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if n == 3:
        raise ValueError(n)
    return n


def rest(_):
    time.sleep(100)


def ends(*_):
    sys.exit("the end")


# --- exceptions that take no attributes -------------------------------------------------------------------------------


def test_an_exception_that_takes_no_attributes_arrives():
    with mp.Pool(2) as pool:
        with pytest.raises(Frozen) as caught:
            pool.apply(frozen_at_two, (2,))
        assert "frozen_at_two" in str(caught.value.__cause__)
        result = pool.map_async(frozen_at_two, range(4))
        for _ in range(2):
            with pytest.raises(Frozen):
                result.get(PATIENCE)
        with pytest.raises(Frozen):
            list(pool.imap(frozen_at_two, range(4)))
        with pytest.raises(Frozen):
            pool.map(frozen_at_two, range(4), on_error="stop")
        assert pool.map(frozen_at_two, range(4), on_error="return") == [0, 1, Frozen(2), 3]
        with pytest.raises(ExceptionGroup) as group:
            pool.map(frozen_at_two, range(4), on_error="group")
        assert group.value.exceptions == (Frozen(2),)


def test_an_exception_that_takes_no_attributes_reaches_callbacks_and_futures():
    told = []
    with mp.Pool(1) as pool:
        result = pool.apply_async(frozen_at_two, (2,), error_callback=told.append)
        with pytest.raises(Frozen):
            result.get(PATIENCE)
        assert told == [Frozen(2)]
    with ProcessPoolExecutor(1) as executor, pytest.raises(Frozen):
        executor.submit(frozen_at_two, 2).result(PATIENCE)


# --- the index of an item ---------------------------------------------------------------------------------------------


def test_a_group_of_an_executor_is_in_the_order_of_the_items():
    with ProcessPoolExecutor(1) as executor, pytest.raises(ExceptionGroup) as group:
        list(executor.map(error_at_three_or_death_at_one, range(5), on_error="group"))
    assert [(type(e).__name__, e.item_index) for e in group.value.exceptions] == [
        ("WorkerDiedError", 1),
        ("ValueError", 3),
    ]


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_the_index_is_that_of_the_item_and_not_of_its_chunk(kind):
    with kind(1) as pool:
        results = pool.imap(error_at_three_or_death_at_one, [0, 2, 3, 5], chunksize=4, on_error="stop")
        with pytest.raises(ValueError, match="3") as caught:
            list(results)
    assert caught.value.item_index == 2


def test_a_soft_limit_says_which_item_took_too_long():
    with mp.Pool(1, soft_timeout=0.1) as pool, pytest.raises(mp.SoftTimeoutError) as caught:
        pool.map(rest, [1])
    assert caught.value.task == 0


# --- functions that end their thread or worker ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["map", "imap"])
def test_a_function_for_progress_that_calls_sys_exit_is_not_called_again(method, capsys):
    called = []

    def tell(done, total):
        called.append(done)
        sys.exit()

    with mp.Pool(2) as pool:
        for _ in range(10):
            called.clear()
            assert list(getattr(pool, method)(abs, range(5), progress=tell)) == list(range(5))
            assert len(called) == 1


def test_an_exit_function_that_calls_sys_exit_has_that_as_its_result():
    pool = mp.Pool(1, exit_function=ends)
    pool.close()
    pool.join()
    [result] = pool.exit_results(return_exceptions=True)
    assert isinstance(result, SystemExit)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_that_are_too_many_call_the_exit_function(method):
    pool = mp.get_context(method).Pool(3, exit_function=mp.worker_id)
    pool.map(abs, range(10))
    pool.resize(1)
    until(lambda: len(pool._pool) == 1)
    pool.close()
    pool.join()
    assert sorted(pool.exit_results()) == [0, 1, 2]


def test_a_worker_that_was_dead_before_the_pool_became_smaller_is_not_listed():
    for _ in range(20):
        with mp.Pool(2) as pool:
            os.kill(pool._pool[1].pid, signal.SIGKILL)
            pool.resize(1)
            until(lambda: len(pool._pool) == 1)
            assert pool.apply(abs, (-1,)) == 1


# --- seeds stay with their task ---------------------------------------------------------------------------------------


def raises_first(n):
    value = random.random()
    marks = mp.worker_state()
    if n not in marks:
        marks[n] = True
        raise ValueError(n)
    return value


def of_a_nested_pool(_):
    with mp.Pool(1) as pool:
        drawn = pool.map(draw, range(2), chunksize=1)
        return drawn, pool.map(raises_first, range(4), chunksize=1, retry_on=ValueError, retries=1)


def draw(_):
    return float(mp.task_rng().random())


def of_a_thread(_):
    first = random.random()
    with ThreadPool(1) as pool:
        pool.map(raises_first, range(1), retry_on=ValueError, retries=1)
    return first, random.random()


def test_what_a_seeded_task_starts_has_no_seed():
    with mp.get_context("fork").Pool(1, seed=1) as pool:
        [(drawn, retried)] = pool.map(of_a_nested_pool, [0])
        assert len({*drawn, *retried}) == 6
        [(first, second)] = pool.map(of_a_thread, [0])
        assert first != second


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_soft_limit_of_centuries_is_none():
    with mp.Pool(1, soft_timeout=1e10) as pool:
        assert pool.map(abs, [-1]) == [1]


def test_a_variable_that_no_environment_can_hold_is_refused():
    with pytest.raises(ValueError, match="environment variable"):
        mp.Pool(1, env={"A": "\ud800"})


def test_more_workers_than_numbers_are_refused():
    with mp.Pool(1) as pool:
        for number in (2**31, 2**32, 2**80):
            with pytest.raises(ValueError, match="2\\*\\*31"):
                pool.resize(number)
