"""Objects come and go, messages flow, processes are killed, for SECONDS: python churn.py METHOD SECONDS."""

from __future__ import annotations

import contextlib
import queue as queues
import random
import sys
import time

import procession as mp


def produce(queue, end: float) -> None:
    while time.monotonic() < end:
        with contextlib.suppress(queues.Full):
            queue.put(b"x" * random.choice((10, 1000, 40_000)), timeout=0.1)


def consume(queue, end: float) -> None:
    while time.monotonic() < end:
        with contextlib.suppress(queues.Empty):
            queue.get(timeout=0.1)


def make_objects(end: float) -> None:
    while time.monotonic() < end:
        locks = [mp.Lock() for _ in range(50)]
        others = [mp.Queue() for _ in range(5)], [mp.Array("d", random.choice((10, 100_000))) for _ in range(3)]
        for lock in locks:
            lock.acquire()
        time.sleep(0.005)
        del locks, others


def kill_children(context, end: float) -> None:
    while time.monotonic() < end:
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
        time.sleep(0.02)
        child.kill()
        child.join()


def main(method: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    context = mp.get_context(method)
    queue = context.Queue(maxsize=200)
    children = [
        context.Process(target=produce, args=(queue, end)),
        context.Process(target=consume, args=(queue, end)),
        context.Process(target=make_objects, args=(end,)),
    ]
    for child in children:
        child.start()
    print("ready", flush=True)
    kill_children(context, end)
    for child in children:
        child.join()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
