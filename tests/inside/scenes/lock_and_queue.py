"""A child holds a lock and puts into a full queue; its consumer acquires the lock: python lock_and_queue.py METHOD."""

from __future__ import annotations

import sys

import procession as mp


def produce(lock, queue, held) -> None:
    with lock:
        held.set()
        for n in range(10):
            queue.put(n)


def main(method: str) -> None:
    context = mp.get_context(method)
    lock, queue, held = context.Lock(), context.Queue(maxsize=2), context.Event()
    child = context.Process(target=produce, args=(lock, queue, held), name="producer")
    child.start()
    held.wait()
    print("ready", flush=True)
    with lock:
        queue.get()


if __name__ == "__main__":
    main(sys.argv[1])
