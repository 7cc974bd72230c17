"""Tasks of event loops wait for what other processes have: METHOD, and which scene."""

import asyncio
import sys
import threading
import time

import procession as mp


async def crossed_in_a_loop(first, second, both):
    assert await first.acquire_async()
    both.wait()
    waiting = asyncio.create_task(second.acquire_async())
    await asyncio.sleep(3600)
    await waiting


def loop(*locks_and_barrier):
    asyncio.run(crossed_in_a_loop(*locks_and_barrier))


def thread(first, second, both):
    with first:
        both.wait()
        with second:
            pass


async def wait_for_everything(lock, queue, full, event, condition, barrier):
    async with asyncio.TaskGroup() as group:
        group.create_task(lock.acquire_async(), name="lock")
        group.create_task(queue.get_async(3600))
        group.create_task(full.put_async(2))
        group.create_task(event.wait_async())
        group.create_task(barrier.wait_async())
        assert condition.acquire()
        group.create_task(condition.wait_async())


async def share_a_lock(lock):
    async def use():
        assert await lock.acquire_async()
        await asyncio.sleep(3600)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(use())


if __name__ == "__main__":
    method, scene = sys.argv[1:]
    context = mp.get_context(method)
    if scene in ("loop and thread", "two loops"):
        left, right, both = context.Lock(name="left"), context.Lock(name="right"), context.Barrier(2)
        other = thread if scene == "loop and thread" else loop
        for name, run, locks in (("looping", loop, (left, right)), ("other", other, (right, left))):
            context.Process(target=run, args=(*locks, both), name=name, daemon=True).start()
        print("ready", flush=True)
        time.sleep(3600)
    elif scene == "everything":
        lock, full = context.Lock(name="held"), context.Queue(1)
        full.put(1)
        with lock:
            threading.Timer(0.2, lambda: print("ready", flush=True)).start()
            objects = lock, context.Queue(), full, context.Event(), context.Condition(), context.Barrier(2)
            asyncio.run(wait_for_everything(*objects))
    else:
        threading.Timer(0.2, lambda: print("ready", flush=True)).start()
        asyncio.run(share_a_lock(context.Lock()))
