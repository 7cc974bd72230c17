"""Two processes acquire two locks crosswise, one with a timeout: python with_timeout.py METHOD."""

from __future__ import annotations

import sys

import procession as mp


def left(first, second, together) -> None:
    with first:
        together.wait()
        second.acquire(timeout=600)


def right(first, second, together) -> None:
    with second:
        together.wait()
        first.acquire()


def main(method: str) -> None:
    context = mp.get_context(method)
    first, second, together = context.RLock(), context.RLock(), context.Barrier(2)
    children = [context.Process(target=target, args=(first, second, together)) for target in (left, right)]
    for child in children:
        child.start()
    print("ready", flush=True)
    for child in children:
        child.join()


if __name__ == "__main__":
    main(sys.argv[1])
