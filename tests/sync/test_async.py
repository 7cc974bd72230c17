"""Waiting in an event loop: it goes on meanwhile, no thread waits in its place, and other processes wake it at once."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE


def release_soon(lock: Any, ready: Any) -> None:
    ready.wait()
    lock.release()


def set_soon(event: Any, ready: Any) -> None:
    ready.wait()
    event.set()


def notify_soon(condition: Any, ready: Any) -> None:
    ready.wait()
    with condition:
        condition.notify()


def arrive_soon(barrier: Any, ready: Any) -> None:
    ready.wait()
    barrier.wait(PATIENCE)


async def ticks(until: asyncio.Future[Any]) -> int:
    """How often the loop comes round before the future is done."""
    count = 0
    while not until.done():
        await asyncio.sleep(0.001)
        count += 1
    return count


def run(start_method: str, target: Any, thing: Any, wait: Any) -> tuple[Any, int]:
    """Waits in a loop for what another process does once the loop is seen to go on."""
    context = mp.get_context(start_method)
    ready = context.Event()
    process = context.Process(target=target, args=(thing, ready))
    process.start()

    async def main() -> tuple[Any, int]:
        threads = threading.active_count()
        waiting = asyncio.ensure_future(wait())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        assert threading.active_count() == threads
        ready.set()
        count = await ticks(waiting)
        return waiting.result(), count

    result = asyncio.run(asyncio.wait_for(main(), 30))
    process.join(PATIENCE)
    assert process.exitcode == 0
    return result


def test_a_lock_is_acquired_when_another_process_releases_it(start_method: str) -> None:
    lock = mp.get_context(start_method).Lock()
    lock.acquire()
    assert run(start_method, release_soon, lock, lock.acquire_async)[0] is True
    assert lock.locked()


def test_a_semaphore_is_acquired_when_another_process_releases_it(start_method: str) -> None:
    semaphore = mp.get_context(start_method).Semaphore(0)
    assert run(start_method, release_soon, semaphore, semaphore.acquire_async)[0] is True
    assert semaphore.get_value() == 0


def test_an_event_wakes_the_loop_when_another_process_sets_it(start_method: str) -> None:
    event = mp.get_context(start_method).Event()
    assert run(start_method, set_soon, event, event.wait_async)[0] is True


def test_a_condition_wakes_the_loop_when_another_process_notifies(start_method: str) -> None:
    condition = mp.get_context(start_method).Condition()

    async def wait() -> bool:
        assert await condition.acquire_async()
        try:
            return bool(await condition.wait_async(20))
        finally:
            condition.release()

    assert run(start_method, notify_soon, condition, wait)[0] is True


def test_a_barrier_lets_the_loop_pass_when_another_process_arrives(start_method: str) -> None:
    barrier = mp.get_context(start_method).Barrier(2)
    assert run(start_method, arrive_soon, barrier, barrier.wait_async)[0] == 0


def test_a_wait_that_takes_too_long_ends_and_leaves_the_object_usable() -> None:
    async def main() -> None:
        lock, event, condition = mp.Lock(), mp.Event(), mp.Condition()
        lock.acquire()
        assert await lock.acquire_async(0.02) is False
        lock.release()
        assert await lock.acquire_async(0) is True
        assert await event.wait_async(0.02) is False
        with condition:
            assert await condition.wait_async(0.02) is False
        assert condition._waiting() == 0
        barrier = mp.Barrier(2)
        with pytest.raises(threading.BrokenBarrierError):
            await barrier.wait_async(0.02)
        assert barrier.broken

    asyncio.run(main())


def test_many_tasks_of_one_loop_get_a_lock_in_turn() -> None:
    lock = mp.Lock()
    inside = 0

    async def use() -> None:
        nonlocal inside
        assert await lock.acquire_async(20)
        inside += 1
        assert inside == 1
        await asyncio.sleep(0)
        inside -= 1
        lock.release()

    async def main() -> None:
        await asyncio.gather(*(use() for _ in range(50)))

    began = time.monotonic()
    asyncio.run(main())
    # Without being called each would come round only now and then.
    assert time.monotonic() - began < 10


def test_a_cancelled_wait_takes_nothing_along() -> None:
    async def main() -> None:
        lock, condition = mp.Lock(), mp.Condition(mp.Lock())
        lock.acquire()
        waiting = asyncio.ensure_future(lock.acquire_async())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        lock.release()
        assert lock.acquire(False)

        async def wait() -> None:
            await condition.acquire_async()
            try:
                await condition.wait_async()
            finally:
                condition.release()

        waiting = asyncio.ensure_future(wait())
        while not condition._waiting():
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert condition._waiting() == 0
        assert condition.acquire(False)

    asyncio.run(main())


def test_a_second_loop_in_the_same_process_has_a_mailbox_of_its_own() -> None:
    for _ in range(3):
        event = mp.Event()

        async def main(event: Any = event) -> bool:
            asyncio.get_running_loop().call_later(0.01, event.set)
            return bool(await event.wait_async(10))

        assert asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) < 200
