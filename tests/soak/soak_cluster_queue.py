"""Kills producers, consumers and nodes of a cluster's queue at random, and accounts for every message.
`make soak-cluster-queue` runs it.

Producers note each message after its `put` has returned, and consumers what they have taken. At the end every noted
message was taken once. Messages may be missing only as far as consumers were killed between `get` and their note, or
were on their way to a node that was killed, or were big and lost with their node; the queue and the consumers count
these.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import cluster_nodes
import cluster_queue_tasks as tasks
import procession as mp

BATCH = 8  # messages that a consumer takes at once


def note(folder: Path, kind: str) -> Counter[str]:
    """What processes have noted: how often each line was written."""
    found: Counter[str] = Counter()
    for path in folder.glob(f"{kind}-*"):
        lines = path.read_text().split("\n")
        found.update(lines[:-1])  # the last one is empty, or torn
    return found


class Storm:
    """The processes that use the queue, and what is done to them."""

    def __init__(self, cluster: Any, nodes: Any, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.nodes = nodes
        self.folder = folder
        self.rng = random.Random(seed)
        self.queue = cluster.Queue(maxsize=2000, name="soak")
        self.stop = cluster.Event()
        self.started = 0
        self.killed: Counter[str] = Counter()
        self.processes: dict[str, list[Any]] = {"producer": [], "consumer": []}

    def start(self, kind: str) -> None:
        target = tasks.soak_produce if kind == "producer" else tasks.soak_consume
        self.started += 1
        args = (self.queue, self.stop, str(self.folder), self.started, BATCH)
        process = self.cluster.Process(target=target, args=args, daemon=True)
        try:
            process.start()
        except mp.NodeDiedError:  # its node was killed just now
            return
        self.processes[kind].append(process)

    def refill(self) -> None:
        """Replaces what has died."""
        for kind, processes in self.processes.items():
            for process in [process for process in processes if process.exitcode is not None]:
                processes.remove(process)
                if process.exitcode:
                    self.killed[kind] += 1
            while len(processes) < 3:
                self.start(kind)

    def strike(self) -> None:
        """Kills something."""
        kind = self.rng.choice(("node", "producer", "consumer", "consumer", "consumer"))
        if kind == "node":
            there = [node for node in self.nodes.nodes if node.poll() is None]
            if len(there) < 2:
                return
            victim = self.rng.choice(there)
            cluster_nodes.kill(victim)
            self.nodes.nodes.remove(victim)
            self.nodes.add()
            self.killed["node"] += 1
        elif self.processes[kind]:
            self.rng.choice(self.processes[kind]).kill()

    def finish(self) -> None:
        """Lets the producers end, and the consumers take what is left."""
        self.stop.set()
        for process in self.processes["producer"]:
            process.join(60)
        limit = time.monotonic() + 120
        while True:
            facts = self.queue._call("facts")
            if not facts["messages"] and not facts["receiving"]:
                break
            assert time.monotonic() < limit, f"consumers do not go on: {facts}"
            self.refill()
            time.sleep(0.2)
        self.queue.shutdown()
        for process in self.processes["consumer"]:
            process.join(60)
            assert process.exitcode == 0, process.exitcode

    def account(self) -> None:
        put, taken = note(self.folder, "producer"), note(self.folder, "consumer")
        lost = taken.pop("lost", 0)
        facts = self.queue._call("facts")
        doubled = {line: count for line, count in taken.items() if count > 1}
        assert not doubled, f"taken twice: {doubled}"
        missing = set(put) - set(taken)
        allowed = self.killed["consumer"] * BATCH + facts["dropped"] + facts["lost"]
        assert len(missing) <= allowed, f"{len(missing)} are missing, {allowed} may be: {sorted(missing)[:20]}"
        print(
            f"{len(put)} put, {len(taken)} taken, none twice; {len(missing)} missing, of {allowed} that may be;"
            f" {facts['returned']} were returned by dead consumers, {facts['dropped']} dropped, {lost} told as lost;"
            f" killed: {dict(self.killed)}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=1, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory() as place,
        cluster_nodes.Nodes(Path(place), 3) as nodes,
        mp.cluster(nodes.address, node_timeout=5) as cluster,
    ):
        nodes.ready(cluster)
        folder = Path(place) / "notes"
        folder.mkdir()
        storm = Storm(cluster, nodes, folder, options.seed)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            storm.refill()
            time.sleep(rng.uniform(0.5, 1.5) * options.every)
            storm.strike()
        storm.refill()
        storm.finish()
        storm.account()
    return 0


if __name__ == "__main__":
    sys.exit(main())
