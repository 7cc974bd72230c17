"""The rows of `cluster.py` with Ray, in an interpreter with it: reads the name of a row, prints seconds per task."""

from __future__ import annotations

import logging
import os
import sys
import time

os.environ["RAY_DEDUP_LOGS"] = "0"
import ray
from cluster_work import double, put_all, square
from ray.util.multiprocessing import Pool
from ray.util.queue import Queue


def tiny(pool):
    began = time.perf_counter()
    assert len(pool.map(square, range(100_000))) == 100_000
    return (time.perf_counter() - began) / 100_000


def single(pool):
    began = time.perf_counter()
    assert len(pool.map(square, range(2_000), chunksize=1)) == 2_000
    return (time.perf_counter() - began) / 2_000


def arrays(pool):
    import numpy

    given = [numpy.ones(500_000) for _ in range(20)]
    began = time.perf_counter()
    assert len(list(pool.imap(double, given))) == 20
    return (time.perf_counter() - began) / 20


def apply(pool):
    began = time.perf_counter()
    for n in range(200):
        pool.apply(square, (n,))
    return (time.perf_counter() - began) / 200


BESIDE = {"num_cpus": 0}  # the pool has taken both


def queue(_):
    through = Queue(actor_options=BESIDE)
    began = time.perf_counter()
    for n in range(200):
        through.put(n)
        through.get()
    took = time.perf_counter() - began
    through.shutdown()
    return took / 200


def stream(pool):
    through = Queue(actor_options=BESIDE)
    done = pool.apply_async(put_all, (through, 200))
    through.get()
    began = time.perf_counter()
    for _ in range(199):
        through.get()
    took = time.perf_counter() - began
    done.get()
    through.shutdown()
    return took / 199


def many(_):
    through = Queue(actor_options=BESIDE)
    began = time.perf_counter()
    for _ in range(20):
        through.put_nowait_batch(list(range(100)))
        through.get_nowait_batch(100)
    took = time.perf_counter() - began
    through.shutdown()
    return took / 2_000


def main():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    pool = Pool(2)
    pool.map(square, range(100))
    print("ready", flush=True)
    for line in sys.stdin:
        print(globals()[line.strip()](pool), flush=True)


if __name__ == "__main__":
    main()
