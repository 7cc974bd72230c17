"""A pool that runs short tasks for minutes, beside a lock and a queue: python steady_pool.py METHOD SECONDS."""

from __future__ import annotations

import sys
import time

import procession as mp


def work(seconds: float) -> None:
    time.sleep(seconds)


def hold(lock, queue) -> None:
    with lock:
        queue.get()


def wait(lock) -> None:
    with lock:
        pass


def main(method: str, seconds: float) -> None:
    context = mp.get_context(method)
    lock, queue, jobs = context.Lock(name="index"), context.Queue(), context.Queue(name="jobs")
    holder = context.Process(target=hold, args=(lock, queue), name="holder", daemon=True)
    holder.start()
    while lock.acquire(block=False):
        lock.release()
    context.Process(target=wait, args=(lock,), name="waiter", daemon=True).start()
    jobs.put("a message")
    with context.Pool(3) as pool:
        result = pool.map_async(work, [seconds] * 100_000, chunksize=1)
        print("ready", flush=True)
        result.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
