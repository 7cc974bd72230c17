"""A pool at work, a queue and a lock: python watched.py METHOD FILE.

Two workers have done three of eight tasks, and have reported the progress of two others, which wait until FILE exists.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import procession as mp

things: list[Any] = []


def begin(*given: Any) -> None:
    things.extend(given)


def load(number: int) -> int:
    begun, gate = things
    if number >= 3:
        mp.report_progress(2, 8, "pages")
        with begun.get_lock():
            begun.value += 1
        gate.wait()
    return number


def main() -> None:
    context = mp.get_context(sys.argv[1])
    begun, gate = context.Value("i", 0), context.Event()
    queue = context.Queue(100, name="tasks")
    lock = context.Lock(name="index")
    for number in range(5):
        queue.put(number)
    queue.get()
    with lock, context.Pool(2, begin, (begun, gate), name="loader") as pool:
        result = pool.map_async(load, range(8), chunksize=1)
        while begun.value < 2:
            time.sleep(0.01)
        print("ready", flush=True)
        while not Path(sys.argv[2]).exists():
            time.sleep(0.01)
        gate.set()
        assert result.get() == list(range(8))
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
