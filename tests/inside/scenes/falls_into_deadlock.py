"""A pool works; when a file comes into being, two processes acquire two locks in a circle.

python falls_into_deadlock.py METHOD FILE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import procession as mp


def work(number: int) -> int:
    time.sleep(0.02)
    return number


def hold(first, second, go, together) -> None:
    go.wait()
    with first:
        together.wait()
        with second:
            pass


def main(method: str, file: str) -> None:
    context = mp.get_context(method)
    locks = [context.RLock(name="<b>accounts</b>"), context.RLock(name="ledger")]
    go, together = context.Event(), context.Barrier(2)
    for name, (first, second) in {"left": locks, "right": locks[::-1]}.items():
        context.Process(target=hold, args=(first, second, go, together), name=name, daemon=True).start()
    with context.Pool(2) as pool:
        result = pool.map_async(work, range(100_000), chunksize=1)
        print("ready", flush=True)
        while not Path(file).exists():
            time.sleep(0.01)
        go.set()
        result.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
