"""Pools of threads, and the package's interface made of threads."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession import dummy
from procession.pool import ThreadPool


def square(x: int) -> int:
    return x * x


def fail(x: int) -> None:
    raise ValueError(x)


def test_a_thread_pool_has_the_interface_of_a_pool():
    with ThreadPool(3) as pool:
        assert len(pool._pool) == 3
        assert pool.apply(square, (3,)) == 9
        assert pool.map(square, range(50)) == pool.map(square, range(50), 7) == [x * x for x in range(50)]
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(square, range(20), 3)) == [x * x for x in range(20)]
        assert sorted(pool.imap_unordered(square, range(20))) == [x * x for x in range(20)]
        got: list[Any] = []
        result = pool.apply_async(square, (4,), callback=got.append)
        assert result.get(PATIENCE) == 16 and got == [16]
        pool.map_async(fail, [1, 2], error_callback=got.append).wait(PATIENCE)
        assert isinstance(got[1], ValueError)
        with pytest.raises(ValueError, match="3") as caught:
            pool.apply(fail, (3,))
        assert caught.value.__cause__ is None  # it is the very exception
        assert {row.state for row in pool.statistics()} == {"idle"}


def test_objects_are_not_copied():
    marker = object()
    with ThreadPool(1) as pool:
        assert pool.apply(lambda: marker) is marker
        assert pool.map(lambda x: x, [marker, marker]) == [marker, marker]


def test_what_has_not_begun_is_cancelled():
    event = threading.Event()
    with ThreadPool(1) as pool:
        running = pool.apply_async(event.wait)
        until(lambda: pool.statistics()[0].state == "busy")
        waiting = pool.apply_async(square, (2,))
        assert waiting.cancel() and not running.cancel()
        with pytest.raises(CancelledError):
            waiting.get(PATIENCE)
        with pytest.raises(ValueError, match="cannot be killed"):
            pool.apply_async(square, (2,), timeout=1).get(PATIENCE)
        event.set()
        assert running.get(PATIENCE) is True


def test_the_initializer_runs_in_each_thread():
    seen: set[int] = set()
    with ThreadPool(2, lambda: seen.add(threading.get_ident())):
        until(lambda: len(seen) == 2)


def test_an_initializer_that_fails_breaks_the_pool():
    with ThreadPool(2, lambda: 1 / 0) as pool:
        with pytest.raises(mp.PoolBrokenError) as caught:
            pool.map(square, range(3))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_closed_pool_ends_and_a_terminated_one_tells_who_waits():
    pool = ThreadPool(2)
    results = pool.map_async(time.sleep, [0.01] * 10, 1)
    pool.close()
    pool.join()
    assert results.get(0) == [None] * 10
    pool = ThreadPool(1)
    begun, event = threading.Event(), threading.Event()
    pool.apply_async(lambda: (begun.set(), event.wait()))
    assert begun.wait(PATIENCE)
    waiting = pool.apply_async(square, (1,))
    pool.terminate()  # does not wait for the thread, which nobody can stop
    with pytest.raises(mp.PoolBrokenError):
        waiting.get(PATIENCE)
    assert pool._pool[0].is_alive()
    event.set()
    pool.join()
    assert not pool._pool[0].is_alive()


def double_sleep(x: int) -> int:
    time.sleep(0.01)
    return 2 * x


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_results_are_awaited_without_blocking_the_loop(kind):
    async def ticks(counts: list[int]) -> None:
        while True:
            counts[0] += 1
            await asyncio.sleep(0.001)

    async def main(pool: Any) -> int:
        counts = [0]
        ticking = asyncio.create_task(ticks(counts))
        assert await pool.apply_async(double_sleep, (21,)) == 42
        done = pool.apply_async(square, (3,))
        done.wait()
        assert await done == await done == 9
        assert await pool.map_async(double_sleep, range(20), 1) == [2 * x for x in range(20)]
        many = await asyncio.gather(*(as_task(pool, n) for n in range(50)))
        assert many == [n * n for n in range(50)]
        with pytest.raises(ValueError, match="7"):
            await pool.apply_async(fail, (7,))
        assert [value async for value in pool.imap(double_sleep, range(30))] == [2 * x for x in range(30)]
        assert sorted([value async for value in pool.imap_unordered(square, range(30), 4)]) == [
            x * x for x in range(30)
        ]
        ticking.cancel()
        return counts[0]

    async def as_task(pool: Any, number: int) -> Any:
        return await pool.apply_async(square, (number,))

    with mp.Pool(2) if kind == "processes" else ThreadPool(2) as pool:
        assert asyncio.run(asyncio.wait_for(main(pool), PATIENCE)) > 10


def test_dummy_is_the_package_made_of_threads():
    queue = dummy.Queue()
    process = dummy.Process(target=queue.put, args=(5,))
    assert process.exitcode is None
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0 and queue.get() == 5
    with dummy.Pool(2) as pool:
        assert pool.map(square, [1, 2]) == [1, 4]
    value = dummy.Value("i", 3)
    value.value += 1
    assert repr(value) == "<Value('i', 4)>"
    assert list(dummy.Array("i", [1, 2])) == [1, 2]
    assert dummy.Manager().dict(a=1) == {"a": 1}
    space = dummy.Namespace(x=1)
    assert repr(space) == "Namespace(x=1)"
    assert dummy.current_process() is threading.current_thread()
    assert dummy.active_children() == []


def test_connections_between_threads():
    one, other = dummy.Pipe()
    assert not other.poll() and not other.poll(0.01)
    one.send("hello")
    assert other.poll(PATIENCE) and other.recv() == "hello"
    with dummy.connection.Listener() as listener:
        client = dummy.connection.Client(listener.address)
        with listener.accept() as server:
            client.send(1)
            assert server.recv() == 1
            server.send(2)
            assert client.recv() == 2
