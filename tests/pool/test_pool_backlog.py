"""Many waiting calls with big arguments: memory stays constant, the caller is not kept, the order stays."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor

BIG = 8_000_000


class Counted:
    """A big object that counts how often it is pickled."""

    def __init__(self, size: int = BIG) -> None:
        self.data = bytes(size)
        self.times = 0

    def __getstate__(self) -> Any:
        self.times += 1
        return {"data": self.data, "times": 0}


def size_of(big, number, seconds=0.0):
    time.sleep(seconds)
    return len(big.data) + number


def size_when(event, big, number):
    assert event.wait(PATIENCE)
    return len(big.data) + number


def length(big, number):
    return len(big) + number


def shared_memory() -> int:
    """Bytes of shared memory that the machine has given out."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Shmem:"))


@pytest.fixture
def pool():
    with mp.Pool(2) as made:
        yield made


def test_waiting_calls_are_pickled_only_as_far_ahead_as_there_is_room(pool):
    goes_on, big = mp.Event(), Counted()
    results = [pool.apply_async(size_when, (goes_on, big, n)) for n in range(60)]
    assert big.times < 20
    goes_on.set()
    assert [result.get(PATIENCE) for result in results] == [BIG + n for n in range(60)]
    assert big.times == 60


def test_waiting_calls_with_a_big_argument_take_no_more_memory_than_some(pool):
    big = bytes(BIG)
    pool.apply(length, (big, 0))
    before = shared_memory()
    most = 0
    results = []
    for n in range(100):
        results.append(pool.apply_async(length, (big, n)))
        most = max(most, shared_memory())
    for n, result in enumerate(results):
        assert result.get(PATIENCE) == BIG + n
        most = max(most, shared_memory())
    # 100 of them are 800 MB; other programs of the machine may take some meanwhile
    assert most - before < 300_000_000


def test_calls_are_made_in_the_order_in_which_they_were_submitted():
    with mp.Pool(1) as pool:
        done: list[int] = []
        for n in range(40):
            arguments = (bytes(BIG), n) if n % 3 else (b"", n)
            pool.apply_async(length, arguments, callback=lambda value, n=n: done.append(n))
        assert pool.apply(length, (b"", 1)) == 1  # behind all the others
        until(lambda: len(done) == 40)
        assert done == sorted(done)


def test_a_big_object_that_all_items_of_a_map_refer_to_is_pickled_few_times(pool):
    big = Counted()
    assert pool.starmap(size_of, [(big, n) for n in range(400)]) == [BIG + n for n in range(400)]
    # four tasks for each worker, as in multiprocessing
    assert big.times <= 8


@pytest.mark.parametrize("chunksize", [None, 1])
def test_a_map_of_more_than_there_is_room_for_returns_at_once_and_is_run(pool, chunksize):
    began = time.monotonic()
    items = [(bytes(BIG), n) for n in range(40)]
    result = pool.starmap_async(length, items, chunksize)
    assert result.get(PATIENCE) == [BIG + n for n in range(40)]
    assert pool.starmap(length, items, chunksize) == [BIG + n for n in range(40)]
    assert time.monotonic() - began < PATIENCE
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "PoolSender"])


def test_what_waits_unsent_is_run_after_close(pool):
    results = [pool.apply_async(length, (bytes(BIG), n)) for n in range(40)]
    mapped = pool.starmap_async(length, [(bytes(BIG), n) for n in range(20)], 1)
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [BIG + n for n in range(40)]
    assert mapped.get(0) == [BIG + n for n in range(20)]


def test_what_waits_unsent_is_given_up_with_the_pool():
    pool = mp.Pool(1)
    told: list[Any] = []
    results = [pool.apply_async(size_of, (Counted(), n, 60), error_callback=told.append) for n in range(30)]
    mapped = pool.starmap_async(length, [(bytes(BIG), n) for n in range(5)], error_callback=told.append)
    pool.terminate()
    pool.join()
    for result in [*results, mapped]:
        with pytest.raises(mp.PoolBrokenError):
            result.get(PATIENCE)
    assert not told


def test_what_waits_unsent_can_be_cancelled(pool):
    goes_on = mp.Event()
    running = [pool.apply_async(size_when, (goes_on, Counted(), n)) for n in range(2)]
    results = [pool.apply_async(length, (bytes(BIG), n)) for n in range(30)]
    mapped = pool.starmap_async(length, [(bytes(BIG), n) for n in range(30)], 1)
    assert results[-1].cancel()
    assert not results[-1].cancel()
    assert mapped.cancel()
    goes_on.set()
    for result in (results[-1], mapped):
        with pytest.raises(CancelledError):
            result.get(PATIENCE)
    assert [result.get(PATIENCE) for result in results[:-1]] == [BIG + n for n in range(29)]
    assert [result.get(PATIENCE) for result in running] == [BIG, BIG + 1]


def test_what_waits_unsent_and_cannot_be_pickled_fails_alone(pool):
    results = [pool.apply_async(length, (bytes(BIG), n)) for n in range(30)]
    bad = pool.apply_async(length, (threading.Lock(), 0))
    last = pool.apply_async(length, (b"", 7))
    with pytest.raises(TypeError, match="pickle"):
        bad.get(PATIENCE)
    assert last.get(PATIENCE) == 7
    assert [result.get(PATIENCE) for result in results] == [BIG + n for n in range(30)]


def test_what_waits_unsent_can_be_awaited(pool):
    async def main() -> list[int]:
        results = [pool.apply_async(length, (bytes(BIG), n)) for n in range(30)]
        return [await result for result in results]

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == [BIG + n for n in range(30)]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("waits", [False, True])
def test_big_items_of_an_imap_take_no_more_room_than_there_is(pool, name, waits):
    items: Any = [bytes(BIG) for _ in range(40)]
    if waits:
        items = (item for item in items)
    assert list(getattr(pool, name)(len, items)) == [BIG] * 40


def test_an_executor_pickles_its_calls_no_further_ahead():
    goes_on, big = mp.Event(), Counted()
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(size_when, goes_on, big, n) for n in range(60)]
        assert big.times < 20
        assert futures[-1].cancel()
        assert futures[-1].cancelled()
        goes_on.set()
        assert [future.result(PATIENCE) for future in futures[:-1]] == [BIG + n for n in range(59)]


def test_an_executors_map_is_run_though_nobody_iterates():
    executor = ProcessPoolExecutor(2)
    results = executor.map(length, [bytes(BIG)] * 40, range(40))
    executor.shutdown(wait=True)
    assert list(results) == [BIG + n for n in range(40)]


def test_a_shutdown_cancels_what_an_executor_has_not_sent():
    executor = ProcessPoolExecutor(1)
    goes_on, big = mp.Event(), Counted()
    first = executor.submit(goes_on.wait, PATIENCE)
    until(first.running)
    others = [executor.submit(size_of, big, n) for n in range(40)]
    executor.shutdown(wait=False, cancel_futures=True)
    goes_on.set()
    assert first.result(PATIENCE)
    assert all(future.cancelled() for future in others)
    executor.shutdown()


def test_a_callback_that_raises_keeps_no_other_call_waiting(pool, monkeypatch):
    printed: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *what: printed.append(what[0]))

    def refuse(error):
        raise ValueError("a callback's own trouble")

    pool.apply_async(length, (threading.Lock(), 0), error_callback=refuse)
    goes_on = mp.Event()
    results = [pool.apply_async(size_when, (goes_on, Counted(), n)) for n in range(30)]
    pool.apply_async(length, (threading.Lock(), 0), error_callback=refuse)
    last = [pool.apply_async(length, (bytes(BIG), n)) for n in range(30)]
    goes_on.set()
    assert [result.get(PATIENCE) for result in results + last] == [BIG + n for n in range(30)] * 2
    assert printed == [ValueError] * 2


def first_byte(data):
    return data[0]


def test_a_big_input_that_waits_in_the_backlog_is_reported_to_its_callback():
    items = [bytes([n]) * 2_500_000 for n in range(40)]
    with mp.Pool(2) as pool:
        for _ in range(3):
            come = []
            pool.map_async(first_byte, items, callback=come.append).wait(PATIENCE)
            assert come == [list(range(40))]
