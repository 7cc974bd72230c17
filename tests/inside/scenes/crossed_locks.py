"""Processes acquire locks in a circle: python crossed_locks.py METHOD KIND COUNT."""

from __future__ import annotations

import sys

import procession as mp


def hold(name: str, first, second, together) -> None:
    with first:
        together.wait()
        with second:
            pass


def main(method: str, kind: str, count: int) -> None:
    context = mp.get_context(method)
    locks = [getattr(context, kind)(name=f"lock{n}") for n in range(count)]
    together = context.Barrier(count)
    children = [
        context.Process(target=hold, args=(f"p{n}", locks[n], locks[(n + 1) % count], together), name=f"p{n}")
        for n in range(count)
    ]
    for child in children:
        child.start()
    print("ready", flush=True)
    for child in children:
        child.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
