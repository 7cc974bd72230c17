"""Starting a process that does nothing, and joining it, one after the other."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import Rows, main

rows = Rows()


def nothing() -> None:
    pass


def start_and_join(mp: Any, method: str, count: int) -> float:
    context = mp.get_context(method)
    began = time.perf_counter()
    for _ in range(count):
        process = context.Process(target=nothing)
        process.start()
        process.join()
    return time.perf_counter() - began


@rows.row("start and join: fork", first=10)
def fork(mp: Any, count: int) -> float:
    return start_and_join(mp, "fork", count)


@rows.row("start and join: spawn", first=2)
def spawn(mp: Any, count: int) -> float:
    return start_and_join(mp, "spawn", count)


@rows.row("start and join: forkserver", first=10)
def forkserver(mp: Any, count: int) -> float:
    start_and_join(mp, "forkserver", 1)  # brings the server up
    return start_and_join(mp, "forkserver", count)


if __name__ == "__main__":
    main(rows)
