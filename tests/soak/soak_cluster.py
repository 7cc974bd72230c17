"""Kills the nodes of a cluster, and their workers, at random, and accounts for every task. `make soak-cluster` runs it.

Three nodes; every few seconds one is killed (and replaced) or stopped for longer than the timeout, or one of its
workers is killed. A pool with retries must return every result, and the right one. A pool without retries must fail for
each task that it did not do, and must run none twice: each run is noted in a file by the task itself.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import cluster_nodes
import procession as mp


def square(n: int) -> int:
    time.sleep(0.0005)
    return n * n


def noted(folder: str, n: int) -> int:
    with open(Path(folder) / str(os.getpid()), "a") as file:
        file.write(f"{n}\n")
    time.sleep(0.002)
    return n


def storm(cluster: Any, nodes: Any, every: float, stop: threading.Event, counts: Counter[str], seed: int) -> None:
    """Kills, stops and replaces nodes, and kills workers. One node is always left to work."""
    rng = random.Random(seed)
    while not stop.wait(rng.uniform(0.5, 1.5) * every):
        known = {node.pid for node in cluster.nodes()}
        there = [node for node in nodes.nodes if node.poll() is None and node.pid in known]
        if len(there) < 2:
            continue
        victim = rng.choice(there)
        kind = rng.choice(("node", "node", "worker", "worker", "stopped"))
        if kind == "node":
            cluster_nodes.kill(victim)
            nodes.nodes.remove(victim)
            nodes.add()
        elif kind == "stopped":
            cluster_nodes.kill(victim, signal.SIGSTOP)
            stop.wait(6)
            cluster_nodes.kill(victim, signal.SIGCONT)
        else:
            found = [pid for pid in workers_of(victim.pid) if cluster_nodes.is_alive(pid)]
            if not found:
                continue
            try:
                os.kill(rng.choice(found), signal.SIGKILL)
            except ProcessLookupError:
                continue
        counts[kind] += 1


def workers_of(pid: int) -> list[int]:
    """The processes of a session that are workers of pools: those that a fork server has made."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != pid:
            try:
                if os.getsid(int(entry)) == pid and parent_of(int(entry)) != pid:
                    found.append(int(entry))
            except (OSError, ValueError):
                continue
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def rounds(cluster: Any, end: float, counts: Counter[str], seed: int) -> None:
    """Maps with and without retries until the time is over."""
    rng = random.Random(seed)
    with cluster.Pool(retries=1_000_000) as safe, cluster.Pool() as once, tempfile.TemporaryDirectory() as folder:
        first = 0
        while time.monotonic() < end:
            base = rng.randrange(1 << 30)
            numbers = range(base, base + 5000)
            chunk = rng.choice((None, 1, 10, 200))
            assert safe.map(square, numbers, chunk) == [n * n for n in numbers]
            assert sorted(safe.imap_unordered(square, numbers, 50)) == [n * n for n in numbers]
            counts["tasks with retries"] += 2 * len(numbers)
            items = range(first, first + 1000)
            first += 1000
            results = [once.apply_async(partial(noted, folder), (n,)) for n in items]
            for n, result in zip(items, results, strict=True):
                try:
                    assert result.get(300) == n
                    counts["tasks without retries"] += 1
                except mp.WorkerDiedError:
                    counts["failed"] += 1
            runs = Counter(int(line) for path in Path(folder).iterdir() for line in path.read_text().split())
            twice = {n: count for n, count in runs.items() if count > 1}
            assert not twice, f"run twice: {twice}"
            if first % 10_000 == 0:
                print(dict(counts), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=3, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    stop = threading.Event()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster_nodes.Nodes(Path(folder), 3) as nodes,
        mp.cluster(nodes.address, node_timeout=4) as cluster,
    ):
        nodes.ready(cluster)
        killer = threading.Thread(target=storm, args=(cluster, nodes, options.every, stop, counts, options.seed))
        killer.start()
        try:
            rounds(cluster, began + options.seconds, counts, options.seed)
        finally:
            stop.set()
            killer.join()
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{time.monotonic() - began:.0f} s, every result right, none run twice without retries: {told}")
    print(f"(seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
