"""Pools of two workers: what a task costs, what arrays cost, how soon a pool is there, how busy its workers are."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import peers
from benchmarks.measure import Rows, main

rows = Rows(peers.POOLS)
WORKERS = 2
# What a peer's adapter has not.
ASYNC = ("multiprocess", "billiard")


def square(x: int) -> int:
    return x * x


def double(array: Any) -> Any:
    array *= 2
    return array


def burn(milliseconds: float) -> int:
    """Keeps a CPU busy with so much work, as measured on an idle one."""
    end = time.process_time() + milliseconds / 1000
    turns = 0
    while time.process_time() < end:
        turns += 1
    return turns


def nothing(_: Any = None) -> None:
    pass


def pool_of(mp: Any, method: str = "fork") -> Any:
    pool = mp.get_context(method).Pool(WORKERS)
    list(pool.map(square, range(4 * WORKERS)))  # all workers are up
    return pool


@rows.row("pool: map of tiny tasks, default chunks", target=1.2, first=20_000)
def map_default(mp: Any, count: int) -> float:
    with pool_of(mp) as pool:
        began = time.perf_counter()
        values = list(pool.map(square, range(count)))
        seconds = time.perf_counter() - began
    assert values[-1] == (count - 1) ** 2
    return seconds


@rows.row("pool: map of tiny tasks, chunksize 1", target=8.0, first=2000)
def map_one(mp: Any, count: int) -> float:
    with pool_of(mp) as pool:
        began = time.perf_counter()
        list(pool.map(square, range(count), chunksize=1))
        return time.perf_counter() - began


def imap_pool(mp: Any) -> Any:
    # mpire: one pool, one method
    return mp.get_context("fork").Pool(WORKERS)


@rows.row("pool: imap_unordered of tiny tasks, chunksize 1", target=8.0, first=2000)
def imap_unordered(mp: Any, count: int) -> float:
    with imap_pool(mp) as pool:
        list(pool.imap_unordered(square, range(100)))
        began = time.perf_counter()
        for _ in pool.imap_unordered(square, range(count), chunksize=1):
            pass
        return time.perf_counter() - began


@rows.row("pool: apply_async, then all results", target=8.0, first=1000, peers=ASYNC)
def apply_async(mp: Any, count: int) -> float:
    with pool_of(mp) as pool:
        began = time.perf_counter()
        results = [pool.apply_async(square, (n,)) for n in range(count)]
        for result in results:
            result.get()
        return time.perf_counter() - began


@rows.row("pool: apply, to and fro", target=6.0, first=500)
def apply(mp: Any, count: int) -> float:
    with imap_pool(mp) as pool:
        pool.apply(square, (1,))
        began = time.perf_counter()
        for n in range(count):
            pool.apply(square, (n,))
        return time.perf_counter() - began


@rows.row("pool: 4 MB arrays, there and back", target=4.0, first=20)
def arrays(mp: Any, count: int) -> float:
    import numpy

    items = [numpy.ones(1 << 19) for _ in range(8)]
    with pool_of(mp) as pool:
        list(pool.map(double, items, chunksize=1))
        began = time.perf_counter()
        for _ in range(max(1, count // len(items))):
            list(pool.map(double, items, chunksize=1))
        return (time.perf_counter() - began) * count / (max(1, count // len(items)) * len(items))


def made_and_ended(mp: Any, method: str, count: int) -> float:
    context = mp.get_context(method)
    with context.Pool(WORKERS) as pool:  # brings a fork server up
        pool.map(nothing, range(2))
    began = time.perf_counter()
    for _ in range(count):
        with context.Pool(WORKERS) as pool:
            pool.map(nothing, range(2))
    return time.perf_counter() - began


@rows.row("pool: made, used once and ended under fork", first=3, peers=ASYNC)
def start_fork(mp: Any, count: int) -> float:
    return made_and_ended(mp, "fork", count)


@rows.row("pool: made, used once and ended under spawn", first=2, peers=ASYNC)
def start_spawn(mp: Any, count: int) -> float:
    return made_and_ended(mp, "spawn", count)


@rows.row("pool: made, used once and ended under forkserver", target=3.0, first=3, peers=ASYNC)
def start_forkserver(mp: Any, count: int) -> float:
    return made_and_ended(mp, "forkserver", count)


# A count is a task of 5 ms of work; with two CPUs and nothing lost, each takes 2.5 ms.
@rows.row("pool: work that keeps the CPUs busy, in 5 ms pieces", target=1.0, first=40)
def busy(mp: Any, count: int) -> float:
    with pool_of(mp) as pool:
        began = time.perf_counter()
        list(pool.map(burn, [5.0] * count))
        return time.perf_counter() - began


def burn_by_oneself(pieces: int, ready: Any, start: Any) -> None:
    ready.put(None)
    start.get()
    for _ in range(pieces):
        burn(5.0)


# The best that two CPUs can do: two processes that each have their half of the work from the beginning.
@rows.row("pool: that work, and beside it two processes that just do it", target=0.95, first=80, peers=())
def busy_beside_ideal(mp: Any, count: int) -> float:
    if mp.__name__ != "multiprocessing":
        return busy(mp, count)
    context = mp.get_context("fork")
    ready, start = context.SimpleQueue(), context.SimpleQueue()
    halves = (count // 2, count - count // 2)
    processes = [context.Process(target=burn_by_oneself, args=(half, ready, start)) for half in halves]
    for process in processes:
        process.start()
    for _ in processes:
        ready.get()
    began = time.perf_counter()
    for _ in processes:
        start.put(None)
    for process in processes:
        process.join()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(rows)
