"""What the benchmarks of clusters run, with every package."""

from __future__ import annotations

import time


def square(n):
    return n * n


def double(array):
    return array * 2


def work(n):
    """Computes for 5 ms."""
    end = time.perf_counter() + 0.005
    while time.perf_counter() < end:
        pass
    return n


def hold(lock, ready):
    """Acquires a lock and stays so until it is killed."""
    lock.acquire()
    ready.set()
    time.sleep(1000)


def put_all(queue, count):
    for n in range(count):
        queue.put(n)
