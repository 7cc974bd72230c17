"""Priorities of calls: which waiting call a worker takes first."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool

METHODS = ["fork", "spawn", "forkserver"]


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.002)


def note(path: str, what: object) -> object:
    with open(path, "a") as file:
        file.write(f"{what}\n")
    return what


def noted(path: Any) -> list[str]:
    return path.read_text().split()


def die(_: object = None) -> None:
    os._exit(1)


@pytest.mark.parametrize("method", METHODS)
def test_calls_of_a_higher_priority_are_run_first_and_others_in_their_order(method, tmp_path):
    go, path = tmp_path / "go", tmp_path / "notes"
    with mp.get_context(method).Pool(1) as pool:
        pool.apply_async(wait_for, (str(go),))
        until(lambda: pool.statistics()[0].state == "busy")
        calls = [("a", 0), ("b", 0), ("low", -3), ("high", 7), ("c", 0), ("mid", 2), ("high2", 7)]
        results = [pool.apply_async(note, (str(path), what), priority=rank) for what, rank in calls]
        go.touch()
        assert [result.get(PATIENCE) for result in results] == [what for what, _ in calls]
        assert noted(path) == ["high", "high2", "mid", "a", "b", "c", "low"]
        assert pool.apply(note, (str(path), "later")) == "later"


@pytest.mark.parametrize("method", METHODS)
def test_maps_have_priorities_and_all_their_items_are_computed(method, tmp_path):
    go, path = tmp_path / "go", tmp_path / "notes"
    with mp.get_context(method).Pool(1) as pool:
        pool.apply_async(wait_for, (str(go),))
        until(lambda: pool.statistics()[0].state == "busy")
        plain = pool.starmap_async(note, [(str(path), f"plain{number}") for number in range(100)], 1)
        stars = pool.starmap_async(note, [(str(path), number) for number in range(200)], 1, priority=1)
        ordered = pool.imap(str, range(100), priority=2)
        go.touch()
        assert list(ordered) == [str(number) for number in range(100)]
        assert stars.get(PATIENCE) == list(range(200))
        assert plain.get(PATIENCE) == [f"plain{number}" for number in range(100)]
        # a worker that takes a task while the pool takes others back may take a later one of the same priority
        assert sorted(noted(path)[:200], key=int) == [str(number) for number in range(200)]


def test_big_arguments_and_callbacks_with_priorities(tmp_path):
    go = tmp_path / "go"
    data = bytes(300_000)
    with mp.Pool(1) as pool:
        pool.apply_async(wait_for, (str(go),))
        until(lambda: pool.statistics()[0].state == "busy")
        got: list[int] = []
        plain = [pool.apply_async(len, (data,), callback=got.append) for _ in range(3)]
        urgent = pool.apply_async(len, (data[:-1],), callback=got.append, priority=1)
        go.touch()
        assert urgent.get(PATIENCE) == 299_999 and [one.get(PATIENCE) for one in plain] == [300_000] * 3
        assert got == [299_999, 300_000, 300_000, 300_000]


def test_tasks_with_priorities_survive_workers_that_die():
    with mp.Pool(2) as pool:
        results = []
        for number in range(60):
            call: Any = die if number % 10 == 9 else abs
            results.append(pool.apply_async(call, (-number,), priority=number % 3 - 1))
        for number, result in enumerate(results):
            if number % 10 == 9:
                with pytest.raises(mp.WorkerDiedError):
                    result.get(PATIENCE)
            else:
                assert result.get(PATIENCE) == number
        assert pool.map(abs, range(100), priority=3, retries=1) == list(range(100))


def test_waiting_calls_with_priorities_are_cancelled(tmp_path):
    go = tmp_path / "go"
    with mp.Pool(1) as pool:
        running = pool.apply_async(wait_for, (str(go),))
        until(lambda: pool.statistics()[0].state == "busy")
        many = pool.map_async(abs, range(300), chunksize=1, priority=1)
        one = pool.apply_async(abs, (-1,), priority=2)
        assert one.cancel()
        many.cancel()
        later = pool.apply_async(abs, (-2,), priority=-1)
        go.touch()
        assert later.get(PATIENCE) == 2 and running.get(PATIENCE) is None
        assert pool._engine.pending == 0


def test_the_map_of_an_executor_has_a_priority():
    with ProcessPoolExecutor(1) as executor:
        assert list(executor.map(abs, range(-50, 0), priority=4)) == list(range(50, 0, -1))


class OwnQueues(Pool):
    def _setup_queues(self) -> None:
        super()._setup_queues()


def test_wrong_priorities_are_refused_at_the_call():
    with mp.Pool(1) as pool:
        for wrong, error in ((1.5, TypeError), ("1", TypeError), (1 << 40, ValueError)):
            with pytest.raises(error, match="priority"):
                pool.apply_async(abs, (1,), priority=wrong)  # type: ignore[arg-type]
            with pytest.raises(error, match="priority"):
                pool.map(abs, [1], priority=wrong)  # type: ignore[typeddict-item]
    with ThreadPool(1) as threads, pytest.raises(ValueError, match="a pool of threads has no priorities"):
        threads.apply_async(abs, (1,), priority=1)
    with OwnQueues(1) as own, pytest.raises(ValueError, match="own queues or workers has no priorities"):
        own.map(abs, [1], priority=1)
