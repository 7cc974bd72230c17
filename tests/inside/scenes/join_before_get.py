"""A parent joins a child whose put waits for room: python join_before_get.py METHOD."""

from __future__ import annotations

import sys

import procession as mp


def produce(queue) -> None:
    for n in range(10):
        queue.put(n)


def main(method: str) -> None:
    context = mp.get_context(method)
    queue = context.Queue(maxsize=2)
    child = context.Process(target=produce, args=(queue,), name="child")
    child.start()
    print("ready", flush=True)
    child.join()
    queue.get()


if __name__ == "__main__":
    main(sys.argv[1])
