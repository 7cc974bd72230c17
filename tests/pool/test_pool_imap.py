"""`imap` beside inputs of all sorts: what is read, by when, and what becomes of it when nobody fetches."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import queue
import re
import signal
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor
from procession.pool import Pool, ThreadPool
from programs import run, write

NAMES = ["imap", "imap_unordered"]


def same(x):
    return x


def touch(folder, number):
    open(os.path.join(folder, str(number)), "w").close()


def children_of(n):
    return [2 * n, 2 * n + 1] if n < 16 else []


def feeders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "PoolFeeder"]


@pytest.fixture(params=[Pool, ThreadPool])
def pool(request):
    with request.param(2) as made:
        yield made


def inputs(count: int) -> list[Any]:
    """The same items, in an input that never waits and in one that may."""
    return [range(count), (n for n in range(count))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_what_was_accepted_before_close_is_run_and_can_be_fetched_after_it(pool, name, kind, chunksize):
    results = getattr(pool, name)(same, inputs(2000)[kind], chunksize)
    pool.close()
    assert sorted(results) == list(range(2000))
    pool.join()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [0, 1])
def test_join_runs_all_tasks_whose_results_nobody_fetches(pool, name, kind, tmp_path):
    results = getattr(pool, name)(functools.partial(touch, tmp_path), inputs(300)[kind])
    pool.close()
    pool.join()
    assert len(os.listdir(tmp_path)) == 300
    assert len(list(results)) == 300  # and they are still there for whom fetches them later


def test_join_runs_all_tasks_under_each_start_method(start_method, tmp_path):
    pool = mp.get_context(start_method).Pool(2)
    results = pool.imap_unordered(functools.partial(touch, tmp_path), range(100))
    pool.close()
    pool.join()
    assert len(os.listdir(tmp_path)) == 100
    del results


@pytest.mark.parametrize("kind", [0, 1])
def test_tasks_of_a_forgotten_iterator_are_run(pool, kind, tmp_path):
    pool.imap(functools.partial(touch, tmp_path), inputs(300)[kind])
    gc.collect()
    until(lambda: len(os.listdir(tmp_path)) == 300)
    pool.close()
    pool.join()


@pytest.mark.parametrize("name", ["map_async", "starmap_async"])
def test_tasks_of_a_forgotten_map_are_run_whatever_their_function_is_bound_to(name, tmp_path):
    items = [(n,) for n in range(50)] if name == "starmap_async" else range(50)
    with mp.Pool(1) as pool:
        pool.apply_async(time.sleep, (0.2,))  # so that the map is forgotten before its first task is taken
        getattr(pool, name)(functools.partial(touch, tmp_path), items, 1)
        pool.close()
        pool.join()
    assert len(os.listdir(tmp_path)) == 50


@pytest.mark.parametrize("gate", [1, 2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_waits_for_results_at_a_gate_does_not_lock_up(pool, name, gate):
    room = threading.Semaphore(gate)

    def source():
        for number in range(60):
            room.acquire()
            yield number

    got = []
    for value in getattr(pool, name)(same, source()):
        got.append(value)
        room.release()
    assert sorted(got) == list(range(60))


def test_an_input_that_grows_out_of_the_results_does_not_lock_up(pool):
    found: queue.Queue[int | None] = queue.Queue()
    found.put(1)
    left, seen = 1, 0
    for children in pool.imap_unordered(children_of, iter(found.get, None)):
        seen += 1
        left += len(children) - 1
        for child in children:
            found.put(child)
        if not left:
            found.put(None)
    assert seen == 31


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_handed_out_while_the_input_waits(pool, name):
    goes_on = threading.Event()

    def source():
        yield 1
        assert goes_on.wait(PATIENCE)
        yield 2

    results = getattr(pool, name)(same, source())
    assert results.next(PATIENCE) == 1
    with pytest.raises(mp.TimeoutError):
        results.next(0.01)
    goes_on.set()
    assert list(results) == [2]


def test_imap_returns_before_its_input_has_an_item(pool):
    goes_on = threading.Event()

    def source():
        assert goes_on.wait(PATIENCE)
        yield 1

    results = pool.imap(same, source())
    goes_on.set()
    assert list(results) == [1]


def test_an_input_that_waits_does_not_block_an_event_loop():
    async def main(pool: Any) -> list[Any]:
        loop, told = asyncio.get_running_loop(), threading.Event()

        def source():
            yield 1
            assert told.wait(PATIENCE)  # set by the loop, so the loop runs meanwhile
            yield 2

        loop.call_later(0.05, told.set)
        return [value async for value in pool.imap(same, source())]

    with mp.Pool(1) as pool:
        assert asyncio.run(asyncio.wait_for(main(pool), PATIENCE)) == [1, 2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunksize", [1, 4])
def test_what_an_input_raises_comes_after_the_results_before_it(pool, name, chunksize):
    def source():
        yield from range(8)
        raise OSError("the input is damaged")

    results = getattr(pool, name)(same, source(), chunksize)
    got = []
    with pytest.raises(OSError, match="damaged"):
        while True:
            got.append(results.next(PATIENCE))
    assert sorted(got) == list(range(8))
    with pytest.raises(StopIteration):
        next(results)


def test_an_item_that_cannot_be_sent_is_an_error_in_its_place():
    with mp.Pool(2) as pool:
        for source in ([1, threading.Lock(), 3], iter([1, threading.Lock(), 3]), (x for x in [1, threading.Lock(), 3])):
            results = pool.imap(same, source)
            assert next(results) == 1
            with pytest.raises(TypeError, match="pickle"):
                next(results)
            assert list(results) == [3]


@pytest.mark.parametrize("buffersize", [1, 3, 10])
@pytest.mark.parametrize("chunksize", [1, 4])
def test_no_more_than_buffersize_items_are_read_ahead_of_the_results(pool, buffersize, chunksize):
    read = given = most = 0

    def source():
        nonlocal read, most
        for number in range(50):
            read += 1
            most = max(most, read - given)
            yield number

    for expected, value in enumerate(pool.imap(same, source(), chunksize, buffersize=buffersize)):
        assert value == expected
        given += 1
    assert given == 50
    # what a `for` loop has fetched and not counted yet is one more
    assert most <= buffersize + 1


def test_the_thread_that_reads_an_input_is_there_only_while_it_is_needed(pool):
    assert list(pool.imap(same, (n for n in range(100)))) == list(range(100))
    until(lambda: not feeders())
    results = pool.imap(same, range(100_000))
    assert not feeders()  # a range never waits, so the consumer reads it
    del results


def test_a_pool_that_ends_ends_the_threads_that_read_its_inputs():
    for kind in (Pool, ThreadPool):
        pool = kind(2)
        results = pool.imap(same, itertools.count(), buffersize=5)
        forgotten = pool.imap(same, itertools.count())
        assert next(results) == next(forgotten) == 0
        del forgotten
        pool.terminate()
        pool.join()
        until(lambda: not feeders())
        with pytest.raises(mp.PoolBrokenError):
            list(results)


def test_a_fork_while_an_input_is_read_harms_nobody():
    with mp.Pool(2) as pool:
        results = pool.imap(same, (n for n in range(3000)))
        got = [next(results) for _ in range(10)]
        child = mp.get_context("fork").Process(target=same, args=(1,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        assert got + list(results) == list(range(3000))


def live(count):
    for number in range(count):
        time.sleep(0.01)
        yield number


@pytest.mark.parametrize("name", NAMES)
def test_an_iterator_that_is_cut_short_says_so(pool, name):
    timer = threading.Timer(0.2, pool.terminate)
    timer.start()
    got = []
    with pytest.raises(mp.PoolBrokenError):
        for value in getattr(pool, name)(same, live(1000)):
            got.append(value)
    timer.join()
    assert len(got) < 1000


@pytest.mark.parametrize("name", NAMES)
def test_cancel_all_ends_an_iterator_and_its_input(pool, name):
    read = 0

    def source():
        nonlocal read
        for value in live(1000):
            read += 1
            yield value

    results = getattr(pool, name)(same, source())
    next(results)
    pool.cancel_all()
    with pytest.raises(CancelledError):
        while True:
            results.next(PATIENCE)
    until(lambda: not feeders())
    assert read < 1000


def test_who_fetches_from_an_input_that_waits_is_told_when_the_pool_is_terminated(pool):
    goes_on, got = threading.Event(), []

    def source():
        yield 1
        goes_on.wait(PATIENCE)

    def fetch(results):
        try:
            got.extend(results)
        except BaseException as error:
            got.append(type(error))

    results = pool.imap(same, source())
    assert next(results) == 1
    thread = threading.Thread(target=fetch, args=(results,))
    thread.start()
    pool.terminate()
    thread.join(PATIENCE)
    goes_on.set()
    assert got == [mp.PoolBrokenError]


def test_several_coroutines_fetch_from_one_iterator():
    async def fetch(results: Any) -> list[int]:
        return [value async for value in results]

    async def main(pool: Any) -> list[int]:
        results = pool.imap(same, (n for n in range(200)))
        parts = await asyncio.wait_for(asyncio.gather(*(fetch(results) for _ in range(3))), PATIENCE)
        return sorted(value for part in parts for value in part)

    with mp.Pool(2) as pool:
        assert asyncio.run(main(pool)) == list(range(200))


def test_an_executors_endless_input_is_read_no_further_after_shutdown():
    executor = ProcessPoolExecutor(2)
    results = executor.map(same, itertools.count(), buffersize=4)
    assert next(results) == 0
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        list(results)


LIVE = """
    import time
    import procession as mp

    big = [None] * 2_000_000  # so that the interpreter's end takes its time

    def live():
        for number in range(10**9):
            time.sleep(0.005)
            yield number

    if __name__ == "__main__":
        pool = mp.Pool(2)
        for value in pool.imap(abs, live()):
            break
        pool.terminate()
        print("the end")
"""


def test_a_program_ends_well_while_an_input_is_read(tmp_path):
    script = write(tmp_path / "live.py", LIVE)
    for _ in range(3):
        assert run(script).well() == "the end\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_handler_that_raises_again_and_again_in_next_hangs_nothing(name):
    with mp.Pool(2) as pool:
        pool.map(same, range(4))
        results, got = getattr(pool, name)(slowly, (n for n in range(60))), []
        raised, in_next, end = 0, False, object()

        def interrupt(*_):
            nonlocal in_next
            if in_next:
                in_next = False
                raise InterruptedError

        signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0137, 0.0137)
            while True:
                try:
                    in_next = True
                    item = next(results, end)
                    in_next = False
                except InterruptedError:
                    raised += 1
                    continue
                if item is end:
                    break
                got.append(item)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        assert 60 - raised <= len(got)
        assert len(set(got)) >= len(got) - raised


def test_ctrl_c_in_the_midst_of_an_imap_loses_no_result():
    with mp.Pool(2) as pool:
        pool.map(same, range(4))
        results = pool.imap(slowly, (n for n in range(40)))
        got: list[int] = []
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                got.append(next(results))
        got += list(results)
        timer.join()
        # at most the one result is missing that was on its way out of `next`
        assert len(got) >= 39
        assert got == sorted(got)


def slowly(x):
    time.sleep(0.01)
    return x


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_results_and_iterators_say_how_far_they_are(kind):
    event = mp.Event() if kind is Pool else threading.Event()
    with kind(1, hold, (event,)) as pool:
        one, many = pool.apply_async(wait_for_it, (1,)), pool.map_async(wait_for_it, range(6), 2)
        bad, values = pool.apply_async(int, ("x",)), pool.imap(same, range(100), buffersize=10)
        assert re.fullmatch(r"<procession.pool.ApplyResult object at 0x\w+: wait_for_it\(\), in progress>", repr(one))
        assert repr(many).endswith(": wait_for_it(), in progress, 3 tasks left>")
        assert repr(values).endswith(": same(), 0 results fetched, 10 items read>")
        event.set()
        many.wait(PATIENCE)
        bad.wait(PATIENCE)
        assert repr(one).endswith("(), done>")
        assert repr(many).endswith("(), done>")
        assert repr(bad).endswith(": int(), failed with ValueError>")
        assert list(values) == list(range(100))
        assert repr(values).endswith("100 results fetched, all 100 items read>")


held: list[Any] = []


def hold(event):
    held[:] = [event]


def wait_for_it(x):
    assert held[0].wait(PATIENCE)
    return x
