"""The end of pools: `join` with a time limit, and `async with`."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

import procession as mp
from deadlines import PATIENCE
from procession.futures import ProcessPoolExecutor
from procession.pool import ThreadPool

METHODS = ["fork", "spawn", "forkserver"]


def square(x: int) -> int:
    return x * x


def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_join_raises_when_its_time_is_over_and_the_pool_goes_on(method, tmp_path):
    path = tmp_path / "go"
    pool = mp.get_context(method).Pool(2)
    result = pool.apply_async(wait_for, (str(path),))
    pool.close()
    with pytest.raises(mp.TimeoutError, match=r"within 0\.05 seconds; calls that are not done: 1"):
        pool.join(0.05)
    assert not result.ready()
    path.touch()
    pool.join(timeout=PATIENCE)
    assert result.get(0) == str(path)
    pool.join(0)  # all have ended


def test_join_of_a_thread_pool_has_a_time_limit_too():
    event = threading.Event()
    pool = ThreadPool(3)
    result = pool.apply_async(event.wait)
    pool.close()
    with pytest.raises(mp.TimeoutError):
        pool.join(0.05)
    event.set()
    pool.join(PATIENCE)
    assert result.get(0) is True


def test_join_checks_its_time_limit_and_the_state_of_the_pool():
    with mp.Pool(1) as pool:
        with pytest.raises(ValueError, match="still running"):
            pool.join(1)
        pool.close()
        with pytest.raises(ValueError, match="timeout"):
            pool.join(-1)
        with pytest.raises(TypeError, match="timeout"):
            pool.join("1")  # type: ignore[arg-type]
        pool.join(float("inf"))


@pytest.mark.parametrize("method", METHODS)
def test_async_with_ends_a_pool_as_with_does(method):
    async def main() -> list[int]:
        async with mp.get_context(method).Pool(2) as pool:
            values = await pool.map_async(square, range(5))
        assert pool._state == "TERMINATE"
        assert all(process.exitcode is not None for process in pool._pool)
        with pytest.raises(ValueError, match="not running"):
            await pool.__aenter__()
        return values

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_the_event_loop_goes_on_while_async_with_ends_a_pool():
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        counter = asyncio.create_task(count())
        async with mp.Pool(1) as pool:
            pool.apply_async(time.sleep, (PATIENCE * 10,))
            while pool.statistics()[0].state != "busy":
                await asyncio.sleep(0.001)
            before = turns
        assert turns > before
        counter.cancel()

    asyncio.run(main())


def test_async_with_passes_on_the_exception_of_its_block():
    async def main() -> None:
        async with ThreadPool(1) as pool:
            assert await pool.apply_async(square, (3,)) == 9
            raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        asyncio.run(main())


def test_async_with_waits_for_the_calls_of_an_executor_while_the_loop_goes_on(tmp_path):
    path = tmp_path / "go"

    async def main() -> str:
        loop = asyncio.get_running_loop()
        async with ProcessPoolExecutor(1) as executor:
            future = executor.submit(wait_for, str(path))
            loop.call_later(0.05, path.touch)  # it runs during the wait at the end of the block
        assert future.done()
        return future.result(0)

    assert asyncio.run(main()) == str(path)


@pytest.mark.parametrize("inside", [True, False])
def test_a_cancelled_task_gives_up_the_calls_of_its_executor(inside, tmp_path):
    """In the block, and while its end waits for the calls."""

    async def main() -> None:
        reached = asyncio.Event()
        executor = ProcessPoolExecutor(1)

        async def use() -> None:
            async with executor:
                executor.submit(wait_for, str(tmp_path / "never"))
                reached.set()
                if inside:
                    await asyncio.sleep(PATIENCE * 10)

        task = asyncio.create_task(use())
        await reached.wait()
        assert executor._pool is not None
        while executor.statistics()[0].state != "busy":
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(process.exitcode is not None for process in executor._processes.values())

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
