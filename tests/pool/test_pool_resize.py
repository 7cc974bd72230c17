"""The number of workers changes while a pool runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool

METHODS = ["fork", "spawn", "forkserver"]


def square(x: int) -> int:
    return x * x


def pid(_: object = None) -> int:
    return os.getpid()


def wait_for(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


def states(pool: Any) -> list[str]:
    return [row.state for row in pool.statistics()]


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_grows_and_shrinks_and_runs_all_tasks(method):
    with mp.get_context(method).Pool(1) as pool:
        result = pool.map_async(square, range(500), 3)
        for size in (4, 1, 2):
            pool.resize(size)
            assert pool._processes == size
            until(lambda size=size: len(pool._pool) == size and len(states(pool)) == size)
            until(lambda: not {"starting", "gone"} & set(states(pool)))
            assert [row.pid for row in pool.statistics()] == [process.pid for process in pool._pool]
        assert result.get(PATIENCE) == [x * x for x in range(500)]
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        assert set(pool.map(pid, range(50), 1)) <= {process.pid for process in pool._pool}


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_is_too_many_finishes_its_task(method, tmp_path):
    path = tmp_path / "go"
    with mp.get_context(method).Pool(2) as pool:
        running = [pool.apply_async(wait_for, (str(path),)) for _ in range(2)]
        until(lambda: states(pool) == ["busy", "busy"])
        processes = list(pool._pool)
        pool.resize(1)
        later = pool.apply_async(pid)
        assert states(pool) == ["busy", "busy"]
        path.touch()
        assert sorted(result.get(PATIENCE) for result in running) == sorted(process.pid for process in processes)
        assert later.get(PATIENCE) == processes[0].pid
        until(lambda: pool._pool == processes[:1])
        assert processes[1].exitcode == 0
        assert pool.statistics()[0].restarts == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_task_is_run_again_if_its_worker_dies_while_the_pool_shrinks(method, tmp_path):
    path = tmp_path / "go"
    with mp.get_context(method).Pool(2, retries=1) as pool:
        running = [pool.apply_async(wait_for, (str(path),)) for _ in range(2)]
        until(lambda: states(pool) == ["busy", "busy"])
        pool.resize(1)
        killed = pool.statistics()[1].pid
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(pool._pool) == 1)
        path.touch()
        assert {result.get(PATIENCE) for result in running} == {pool._pool[0].pid}


def test_a_pool_that_grows_again_keeps_a_worker_that_had_not_ended(tmp_path):
    path = tmp_path / "go"
    with mp.Pool(2) as pool:
        running = [pool.apply_async(wait_for, (str(path),)) for _ in range(2)]
        until(lambda: states(pool) == ["busy", "busy"])
        processes = list(pool._pool)
        pool.resize(1)
        pool.resize(3)
        until(lambda: len(pool._pool) == 3 and states(pool)[2] == "idle")
        path.touch()
        for result in running:
            result.get(PATIENCE)
        until(lambda: states(pool) == ["idle"] * 3)
        assert pool._pool[:2] == processes and all(process.exitcode is None for process in pool._pool)


def test_a_closed_pool_is_not_resized():
    with mp.Pool(1) as pool:
        for wrong, error in ((0, ValueError), (-1, ValueError), (1 << 20, ValueError), ("2", TypeError)):
            with pytest.raises(error):
                pool.resize(wrong)  # type: ignore[arg-type]
        assert pool._processes == 1
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.resize(2)


def test_the_workers_of_a_smaller_pool_end_with_it(tmp_path):
    path = tmp_path / "go"
    pool = mp.Pool(3)
    running = [pool.apply_async(wait_for, (str(path),)) for _ in range(3)]
    until(lambda: states(pool) == ["busy"] * 3)
    processes = list(pool._pool)
    pool.resize(1)
    pool.close()
    path.touch()
    pool.join(PATIENCE)
    assert all(process.exitcode == 0 for process in processes)
    assert all(result.get(0) for result in running)


def test_a_pool_of_threads_grows_and_shrinks():
    event = threading.Event()
    with ThreadPool(1) as pool:
        first = pool.apply_async(event.wait)
        until(lambda: states(pool) == ["busy"])
        pool.resize(3)
        others = [pool.apply_async(event.wait) for _ in range(2)]
        until(lambda: states(pool) == ["busy"] * 3)
        assert len(pool._pool) == 3
        pool.resize(1)
        later = pool.apply_async(square, (3,))
        event.set()
        assert later.get(PATIENCE) == 9 and first.get(PATIENCE) and all(other.get(PATIENCE) for other in others)
        until(lambda: len(pool._pool) == 1 and states(pool) == ["idle"])
        pool.resize(4)
        until(lambda: len(pool._pool) == 4 and states(pool) == ["idle"] * 4)
        pool.resize(2)  # idle threads end, too
        until(lambda: len(pool._pool) == 2)
        assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
        pool.close()
        pool.join(PATIENCE)


def test_an_executor_is_resized_before_and_after_its_first_call():
    with ProcessPoolExecutor(1) as executor:
        executor.resize(3)
        assert executor._max_workers == 3
        assert list(executor.map(square, range(9))) == [x * x for x in range(9)]
        assert len(executor._processes) == 3
        executor.resize(2)
        until(lambda: len(executor._processes) == len(executor.statistics()) == 2)
        assert executor._max_workers == 2
        assert list(executor.map(square, range(9))) == [x * x for x in range(9)]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.resize(2)


def test_a_pool_with_workers_of_its_own_is_not_resized():
    class Own(Pool):
        def _setup_queues(self) -> None:
            super()._setup_queues()

    with Own(1, context=mp.get_context("fork")) as pool, pytest.raises(ValueError, match="cannot be resized"):
        pool.resize(2)
