"""Kills the workers of a pool at random and accounts for every task. A program: `make soak-pool` runs it.

Four workers, a SIGKILL every 50 ms, tasks of several kinds with retries: every result must be there, and be right.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
from typing import Any

import procession as mp
from procession import _core


def square(x: int) -> int:
    return x * x


def echo(payload: bytes) -> bytes:
    return payload[::-1]


def work(x: int) -> int:
    """Takes a moment."""
    for _ in range(200):
        x = (x * 1103515245 + 12345) % 2147483648
    return x


def storm(pool: Any, every: float, stop: threading.Event, counts: dict[str, int], seed: int) -> None:
    """Kills one worker after the other."""
    rng = random.Random(seed)
    while not stop.wait(every):
        pid = rng.choice(pool._pool).pid
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(pid, signal.SIGKILL)
            counts["kills"] += 1


def rounds(pool: Any, end: float, tasks: int, counts: dict[str, int], seed: int) -> None:
    """Tasks of every kind until the time is over and there were enough of them, each answer checked."""
    rng = random.Random(seed)
    while time.monotonic() < end or counts["tasks"] < tasks:
        base = rng.randrange(1 << 30)
        numbers = range(base, base + 2000)
        assert pool.map(square, numbers, 1) == [x * x for x in numbers]
        assert pool.map(square, numbers) == [x * x for x in numbers]
        assert list(pool.imap(square, numbers)) == [x * x for x in numbers]
        assert sorted(pool.imap_unordered(square, numbers, 7)) == [x * x for x in numbers]
        results = [pool.apply_async(work, (x,)) for x in range(base, base + 300)]
        assert [result.get(60) for result in results] == [work(x) for x in range(base, base + 300)]
        payload = rng.randbytes(rng.choice((10, 5000, 200_000)))
        assert pool.apply(echo, (payload,)) == payload[::-1]
        got: list[int] = []
        for x in range(50):
            pool.apply_async(square, (x,), callback=got.append)
        limit = time.monotonic() + 60
        while len(got) < 50:
            assert time.monotonic() < limit, "callbacks are missing"
            time.sleep(0.001)
        assert sorted(got) == [x * x for x in range(50)]
        counts["tasks"] += 4 * len(numbers) + 300 + 1 + 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--tasks", type=int, default=0, help="at least so many, however long it takes")
    parser.add_argument("--every", type=float, default=0.05, help="seconds between two kills")
    parser.add_argument("--start-method", default="fork")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    counts = {"tasks": 0, "kills": 0}
    pool = mp.get_context(options.start_method).Pool(4, retries=1_000_000)
    stop = threading.Event()
    killer = threading.Thread(target=storm, args=(pool, options.every, stop, counts, options.seed), daemon=True)
    killer.start()
    began = time.monotonic()
    try:
        rounds(pool, began + options.seconds, options.tasks, counts, options.seed)
    finally:
        stop.set()
        killer.join()
        pool.terminate()
        pool.join()
    del pool
    _core.sweep()
    print(
        f"{counts['tasks']} tasks in {time.monotonic() - began:.0f} s, {counts['kills']} workers killed, "
        f"every result right; {_core._blocks()} blocks of family memory left (seed {options.seed})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
