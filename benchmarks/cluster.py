#!/usr/bin/env python3
"""Procession over a cluster of two nodes on this machine, beside Dask on these nodes, Ray, and a pool without them.

In each round a row is measured with every package, one after the other, and the ratios to ours are taken; the table
shows the median of the ratios, with the least and the greatest. Dask gets fewer tasks where it needs milliseconds for
each, and Ray 2,000 where it gets single tasks; all figures are per task. A package that is not installed is named.

    python benchmarks/cluster.py [--rounds 5] [--ray .venv-ray/bin/python]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "helpers")]

warnings.simplefilter("ignore")

import numpy  # noqa: E402
from cluster_hops import message_through_hops  # noqa: E402
from cluster_work import double, hold, put_all, square, work  # noqa: E402
from distributed import Client, Event, Lock, Queue  # noqa: E402

import cluster_nodes  # noqa: E402
import procession as mp  # noqa: E402

# per row: the title, and at least how many times faster than each package; the last row: at most how many milliseconds
ROWS = {
    "tiny": ("100,000 tiny tasks, map", {"dask": 200, "ray": 1.2}),
    "single": ("10,000 tiny tasks, chunksize 1", {"ray": 20, "dask": None}),
    "arrays": ("arrays of 4 MB there and back", {"dask": 1.5, "ray": None}),
    "apply": ("apply, one after the other", {"dask": 1, "ray": None}),
    "work": ("5 ms of work per item", {"one machine": 0.9}),
    "lock": ("acquire and release of a lock", {"dask": 1}),
    "event": ("set, wait and clear of an event", {"dask": 1}),
    "queue": ("a message through a queue, put and get", {"dask": 2, "ray": 2, "its way alone": None}),
    "stream": ("a message from a task to the program", {"dask": None, "ray": None}),
    "many": ("put_many and get_many of 100, per message", {"dask": 20, "ray": 20, "ray, batches": None}),
    "fixed": ("a map of 10 items", {}),
    "died": ("from SIGKILL of a lock's holder to OwnerDiedError", {}),
}
# where the name of the method is another one than that of the row
METHODS = {("many", "ray"): "queue", ("many", "ray, batches"): "many"}
MOST = {"fixed": 0.050, "died": 0.5}  # seconds


def timed(call, count):
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) / count


def pairs(lock):
    return timed(lambda: [(lock.acquire(), lock.release()) for _ in range(300)], 300)


def flags(event):
    return timed(lambda: [(event.set(), event.wait(), event.clear()) for _ in range(200)], 200)


class Ours:
    def __init__(self, pool, cluster=None):
        self.pool = pool
        self.cluster = cluster

    def tiny(self):
        return timed(lambda: self.pool.map(square, range(100_000)), 100_000)

    def single(self):
        return timed(lambda: self.pool.map(square, range(10_000), chunksize=1), 10_000)

    def arrays(self):
        given = [numpy.ones(500_000) for _ in range(20)]
        return timed(lambda: list(self.pool.imap(double, given)), 20)

    def apply(self):
        return timed(lambda: [self.pool.apply(square, (n,)) for n in range(200)], 200)

    def work(self):
        return timed(lambda: self.pool.map(work, range(400)), 400)

    def fixed(self):
        return timed(lambda: self.pool.map(square, range(10)), 1)

    def lock(self):
        return pairs(self.cluster.Lock())

    def event(self):
        return flags(self.cluster.Event())

    def queue(self):
        queue = self.cluster.Queue()
        return timed(lambda: [(queue.put(n), queue.get()) for n in range(300)], 300)

    def stream(self):
        queue = self.cluster.Queue()
        self.pool.apply_async(put_all, (queue, 500))
        queue.get()
        return timed(lambda: [queue.get() for _ in range(499)], 499)

    def many(self):
        queue = self.cluster.Queue()
        return timed(lambda: [(queue.put_many(range(100)), queue.get_many(100)) for _ in range(50)], 5_000)

    def died(self):
        lock, ready = self.cluster.Lock(), self.cluster.Event()
        holder = self.cluster.Process(target=hold, args=(lock, ready))
        holder.start()
        ready.wait()
        began = time.perf_counter()
        holder.kill()
        try:
            lock.acquire()
        except mp.OwnerDiedError:
            return time.perf_counter() - began
        finally:
            holder.join()
        raise AssertionError("the death was not told")


class Dask:
    def __init__(self, client):
        self.client = client

    def tiny(self, count=3_000):
        return timed(lambda: self.client.gather(self.client.map(square, range(count), pure=False)), count)

    def single(self):
        return self.tiny(1_000)

    def arrays(self):
        given = [numpy.ones(500_000) for _ in range(20)]
        return timed(lambda: self.client.gather(self.client.map(double, given, pure=False)), 20)

    def apply(self):
        return timed(lambda: [self.client.submit(square, n, pure=False).result() for n in range(50)], 50)

    def lock(self):
        with self.client.as_current():
            return pairs(Lock())

    def event(self):
        with self.client.as_current():
            return flags(Event())

    def queue(self):
        queue = Queue(client=self.client)
        return timed(lambda: [(queue.put(n), queue.get()) for n in range(100)], 100)

    many = queue

    def stream(self):
        queue = Queue(client=self.client)
        done = self.client.submit(put_all, queue, 200, pure=False)
        queue.get()
        took = timed(lambda: [queue.get() for _ in range(199)], 199)
        done.result()
        return took


class Way:
    """The sockets and loops that a message goes through, without queues."""

    def queue(self):
        return message_through_hops()


class Ray:
    def __init__(self, python):
        self.process = subprocess.Popen(
            [python, str(HERE / "cluster_ray.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("it does not start")

    def __getattr__(self, row):
        def measure():
            self.process.stdin.write(row + "\n")
            self.process.stdin.flush()
            return float(self.process.stdout.readline())

        return measure

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


def measure(rows, rounds, ray_python):
    times = {row: {} for row in rows}
    missing = []
    environment = {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(environment)
        nodes = stack.enter_context(cluster_nodes.Nodes(folder, 2))
        cluster = nodes.ready(stack.enter_context(mp.cluster(nodes.address)))
        packages = {"procession": Ours(stack.enter_context(cluster.Pool()), cluster)}
        packages["dask"] = Dask(stack.enter_context(Client(nodes.address, set_as_default=False)))
        packages["its way alone"] = Way()
        packages["one machine"] = Ours(stack.enter_context(mp.get_context("forkserver").Pool(2)))
        if ray_python and Path(ray_python).exists():
            try:
                packages["ray"] = Ray(ray_python)
                packages["ray, batches"] = packages["ray"]
                stack.callback(packages["ray"].close)
            except Exception as error:
                missing.append(f"ray: {error}")
        else:
            missing.append("ray: not installed (pip install ray, in an environment of its own; --ray PYTHON)")
        for number in range(rounds + 1):  # the first one warms up
            for row, (_, targets) in rows.items():
                names = ["procession", *(name for name in targets if name in packages)]
                for name in names if number % 2 else reversed(names):
                    took = getattr(packages[name], METHODS.get((row, name), row))()
                    if number:
                        times[row].setdefault(name, []).append(took)
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return times, missing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row; may be given more than once")
    parser.add_argument("--ray", default=".venv-ray/bin/python", help="an interpreter that has Ray")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    options = parser.parse_args()
    rows = {row: facts for row, facts in ROWS.items() if not options.row or row in options.row}
    times, missing = measure(rows, options.rounds, options.ray)
    missed = []
    print("| row | Procession | beside | median (least-greatest) | target |\n| --- | --- | --- | --- | --- |")
    for row, (title, targets) in rows.items():
        ours = times[row]["procession"]
        own = f"{statistics.median(ours) * 1e6:,.1f} µs"
        if row in MOST:
            print(f"| {title} | {own} | | | under {MOST[row] * 1e3:.0f} ms |")
            if statistics.median(ours) > MOST[row]:
                missed.append(title)
        for name, target in targets.items():
            others = times[row].get(name)
            if others is None:
                continue
            ratios = [theirs / mine for theirs, mine in zip(others, ours, strict=True)]
            ratio = statistics.median(ratios)
            theirs = f"{name} {statistics.median(others) * 1e6:,.1f} µs"
            wanted = "" if target is None else f"{target}×"
            print(f"| {title} | {own} | {theirs} | {ratio:,.1f}× ({min(ratios):,.1f}-{max(ratios):,.1f}) | {wanted} |")
            if target is not None and ratio < target:
                missed.append(f"{title} beside {name}")
    for what in missing:
        print(f"MISSING: {what}")
    for what in missed:
        print(f"MISSED: {what}")
    if options.json:
        options.json.write_text(json.dumps(times))
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
