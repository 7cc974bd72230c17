"""Tasks of event loops that wait are seen, and what they are part of is suspected."""

from __future__ import annotations

import asyncio
import os

import pytest

import procession as mp
from deadlines import until
from scenes import command, report, scene


def waits(found):
    """The waits of all tasks of event loops, with the members."""
    return [
        (member["name"], wait)
        for member in found["family"]["members"]
        for thread in member["threads"]
        for wait in thread["tasks"]
    ]


@pytest.mark.parametrize("which", ["loop and thread", "two loops"])
def test_a_deadlock_through_an_event_loop_is_suspected(start_method, which):
    with scene("event_loops", start_method, which) as shown:
        finding = shown.finding("deadlock")
        assert finding["proof"] == "suspected"
        steps = {step["who"]["name"]: step for step in finding["steps"]}
        assert set(steps) == {"looping", "other"}
        assert steps["looping"]["waits"] == 'waits for Lock "right" in an event loop'
        assert [held["name"] for held in steps["looping"]["holds"]] == ["left"]
        assert ("in an event loop" in steps["other"]["waits"]) == (which == "two loops")


def test_each_wait_of_a_task_is_shown(start_method):
    with scene("event_loops", start_method, "everything") as shown:
        kinds = {"acquire", "item", "room", "set", "barrier", "notification"}
        assert until(lambda: {wait["what"] for _, wait in waits(shown.report())} == kinds)
        found = shown.report()
        assert found["findings"] == []
        for name, wait in waits(found):
            assert name == "MainProcess" and wait["object"] is not None
            assert (wait["gives_up_in"] is not None) == (wait["what"] == "item")
        output, _, _ = command("ps", str(shown.pid))
        assert "runs an event loop" in output
        assert output.count("a task of thread") == 6
        assert 'waits for Lock "held", held by MainProcess' in output


def test_tasks_of_one_loop_that_share_a_lock_are_no_deadlock(start_method):
    with scene("event_loops", start_method, "shared") as shown:
        assert until(lambda: len(waits(shown.report())) == 2)
        assert shown.report()["findings"] == []


def own_waits():
    return [wait for _, wait in waits(report(os.getpid()))]


def test_a_record_ends_with_the_wait_however_that_ends():
    lock, queue = mp.Lock(), mp.Queue()

    async def main():
        with lock:
            assert not await lock.acquire_async(0.01)
            assert own_waits() == []
            waiting = asyncio.create_task(lock.acquire_async())
            while not own_waits():
                await asyncio.sleep(0.001)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert own_waits() == []
        getting = asyncio.create_task(queue.get_async())
        while not own_waits():
            await asyncio.sleep(0.001)
        queue.put(1)
        assert await getting == 1
        assert own_waits() == []

    asyncio.run(main())


def test_a_forked_child_has_none_of_the_waits_of_its_parent():
    lock = mp.Lock()

    async def main():
        with lock:
            waiting = asyncio.create_task(lock.acquire_async())
            while not own_waits():
                await asyncio.sleep(0.001)
            child = os.fork()
            if not child:
                os._exit(len(own_waits()))
            assert os.waitpid(child, 0)[1] >> 8 == 1  # the one of the parent, which the child sees too
            assert len(own_waits()) == 1
            waiting.cancel()

    asyncio.run(main())
    assert own_waits() == []


def test_more_tasks_than_have_records_wait_all_the_same():
    semaphore = mp.Semaphore(0)

    async def main():
        tasks = [asyncio.create_task(semaphore.acquire_async()) for _ in range(600)]
        while len(own_waits()) < 256:
            await asyncio.sleep(0.01)
        semaphore.release(600)
        assert all(await asyncio.gather(*tasks))

    asyncio.run(main())
    assert own_waits() == []
