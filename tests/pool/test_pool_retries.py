"""`retry_on`: calls that are made again because they have raised."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool


class Refused(OSError):
    """An exception of the program."""


class Flaky:
    """Fails for each item as often as `failures` says, and counts its calls in files of a folder."""

    def __init__(self, folder, failures, error=Refused):
        self.folder, self.failures, self.error = str(folder), failures, error

    def __call__(self, n=0, add=0):
        with open(Path(self.folder, str(n)), "a+") as file:
            file.write("x")
        if os.path.getsize(Path(self.folder, str(n))) <= self.failures:
            raise self.error(f"{n} is not ready")
        return n + add

    def calls(self, n=0):
        return os.path.getsize(Path(self.folder, str(n)))


def dies_and_raises(path):
    """Kills its worker at the first call, and raises at the second and the third."""
    with open(path, "a+") as file:
        file.write("x")
    calls = os.path.getsize(path)
    if calls == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if calls < 4:
        raise Refused(calls)
    return calls


def raises_value_error(n=0):
    raise ValueError(n)


HOW = {"retries": 2, "retry_on": Refused}


def check(pool, folder):
    """Every kind of call, of which each fails twice."""

    def flaky(name):
        (folder / name).mkdir()
        return Flaky(folder / name, 2)

    assert pool.apply_async(flaky("call"), (3,), {"add": 1}, **HOW).get(PATIENCE) == 4
    for chunksize in None, 1, 2:
        assert pool.map(flaky(f"map {chunksize}"), range(4), chunksize, **HOW) == [0, 1, 2, 3]
        assert pool.starmap(flaky(f"starmap {chunksize}"), [(1, 1), (2, 2)], chunksize, **HOW) == [2, 4]
        assert list(pool.imap(flaky(f"imap {chunksize}"), range(4), chunksize or 1, **HOW)) == [0, 1, 2, 3]
    results = pool.map(flaky("too often"), range(2), retries=1, retry_on=(KeyError, OSError), on_error="return")
    assert [type(value) for value in results] == [Refused, Refused]
    assert results[1].__notes__ == ["raised by the last of 2 attempts", "raised by the call for item 1: 1"]
    assert Flaky(folder / "too often", 0).calls(1) == 2


def test_a_call_that_raises_is_made_again(context, tmp_path):
    with context.Pool(2) as pool:
        check(pool, tmp_path)


def test_threads_make_a_call_again(tmp_path):
    with ThreadPool(2) as pool:
        check(pool, tmp_path)
        with pytest.raises(ValueError, match="no retries"):
            pool.map(abs, [1], retries=1)


def test_a_pool_with_its_own_queues_makes_a_call_again(tmp_path):
    class Foreign(Pool):
        def _setup_queues(self):
            self._inqueue, self._outqueue = self._ctx.SimpleQueue(), self._ctx.SimpleQueue()
            self._quick_put, self._quick_get = self._inqueue.put, self._outqueue.get

    with Foreign(2) as pool:
        assert pool.map(Flaky(tmp_path, 2), range(4), 2, **HOW) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="retry_on"):
        Foreign(2, **HOW)


def test_what_the_pool_says_holds_for_all_its_calls(context, tmp_path):
    with context.Pool(2, retry_delay=0.001, **HOW) as pool:
        for number, call in enumerate(
            [
                lambda f: pool.apply(f, (1,)),
                lambda f: pool.apply_async(f, (1,)).get(PATIENCE),
                lambda f: pool.map(f, [1])[0],
                lambda f: next(pool.imap_unordered(f, [1])),
            ]
        ):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert call(Flaky(folder, 2)) == 1
        with pytest.raises(Refused):
            pool.apply_async(Flaky(tmp_path, 1), (7,), retries=0).get(PATIENCE)
        with pytest.raises(Refused):
            pool.map(Flaky(tmp_path, 1), [8], retry_on=())


def test_executors_make_a_call_again(context, tmp_path):
    with ProcessPoolExecutor(2, context, **HOW) as executor:
        assert executor.submit(Flaky(tmp_path, 2), 1, add=2).result(PATIENCE) == 3
        assert list(executor.map(Flaky(tmp_path, 2), range(5, 8), chunksize=2)) == [5, 6, 7]
        with pytest.raises(Refused) as caught:
            list(executor.map(Flaky(tmp_path, 2), range(8, 10), retries=1))
        assert "raised by the last of 2 attempts" in caught.value.__notes__


def test_other_exceptions_are_not_retried():
    with Pool(1) as pool, pytest.raises(ValueError) as caught:
        pool.apply_async(raises_value_error, **HOW).get(PATIENCE)
    assert not hasattr(caught.value, "__notes__")


def test_deaths_and_exceptions_are_counted_each_by_itself(tmp_path):
    with Pool(1) as pool:
        assert pool.apply_async(dies_and_raises, (str(tmp_path / "a"),), **HOW).get(PATIENCE) == 4
        with pytest.raises(Refused):
            pool.apply_async(dies_and_raises, (str(tmp_path / "b"),), retries=1, retry_on=OSError).get(PATIENCE)
        assert os.path.getsize(tmp_path / "b") == 3


def test_each_wait_is_twice_as_long_as_the_one_before(tmp_path):
    with Pool(1) as pool:
        began = time.monotonic()
        assert pool.map(Flaky(tmp_path, 3), [5], retries=3, retry_on=Refused, retry_delay=0.05) == [5]
        assert time.monotonic() - began >= 0.05 + 0.1 + 0.2


def test_waits_between_attempts_count_for_the_time_limit(tmp_path):
    with Pool(1) as pool, pytest.raises(mp.TaskTimeoutError):
        pool.map(Flaky(tmp_path, 3), [5], retries=3, retry_on=Refused, retry_delay=1000, timeout=0.2)


def test_no_wait_is_longer_than_a_minute(monkeypatch, tmp_path):
    from procession._pool import retrying

    waits: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", waits.append)
    call = retrying.Retrying(Flaky(tmp_path, 100), (Refused,), 100, 1.0)
    assert call() == 0
    assert waits[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(waits[6:]) == {60}
    assert len(waits) == 100


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"retry_on": OSError}, ValueError, "retry_on needs retries"),
        ({"retry_on": "OSError", "retries": 1}, TypeError, "class of exceptions"),
        ({"retry_on": KeyboardInterrupt, "retries": 1}, TypeError, "class of exceptions"),
        ({"retry_on": [OSError], "retries": 1}, TypeError, "class of exceptions"),
        ({"retry_delay": 1, "retries": 1}, ValueError, "retry_delay needs retry_on"),
        ({"retry_on": OSError, "retry_delay": -1, "retries": 1}, ValueError, "retry_delay must be 0 seconds or more"),
    ],
)
def test_wrong_retries_are_refused_at_the_call(options, error, text):
    with pytest.raises(error, match=text):
        Pool(1, **options)
    with pytest.raises(error, match=text):
        ProcessPoolExecutor(1, **options)
    with Pool(1) as pool, ThreadPool(1) as threads:
        for call in pool.map, pool.imap, threads.map:
            with pytest.raises(error, match=text):
                call(abs, [1], **options)
        with pytest.raises(error, match=text):
            pool.apply_async(abs, (1,), **options)
