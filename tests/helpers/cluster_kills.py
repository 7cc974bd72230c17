"""Uses the locks of a cluster while processes and nodes are killed, and accounts for waits and deaths."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from queue import Empty
from typing import Any

import cluster_nodes
import procession as mp
from deadlines import PATIENCE

PROCESSES = 6


def use(objects: dict[str, Any], stop: Any, reports: Any) -> None:
    """Uses all objects at random until `stop` is set. Reports waits that do not end, deaths that it was told of, and
    errors, as (what, object, detail)."""
    lock, rlock, condition = objects["lock"], objects["rlock"], objects["condition"]
    barrier, semaphore = objects["barrier"], objects["semaphore"]
    while not stop.is_set():
        name = random.choice(list(objects))
        try:
            if name == "lock" and held(lock, name, reports):
                time.sleep(random.choice((0, 0.005)))
                lock.release()
            elif name == "rlock" and held(rlock, name, reports):
                with rlock:
                    pass
                rlock.release()
            elif name == "semaphore" and held(semaphore, name, reports):
                semaphore.release()
            elif name == "condition":
                with condition:
                    condition.notify()
                    condition.wait(random.choice((0, 0.01, 0.05)))
            elif name == "barrier":
                try:
                    barrier.wait(0.05)
                except threading.BrokenBarrierError:
                    barrier.reset()
        except mp.OwnerDiedError as error:
            reports.put(("died", name, error.pid))
        except (ValueError, AssertionError) as error:
            reports.put(("error", name, repr(error)))


def held(what: Any, name: str, reports: Any) -> bool:
    """Acquires an object. Reports a wait that takes longer than any correct program needs."""
    if what.acquire(timeout=PATIENCE):
        return True
    reports.put(("hangs", name, os.getpid()))
    return False


class Kills:
    """Processes that use the objects, and what is done to them."""

    def __init__(self, cluster: Any, nodes: Any, seed: int) -> None:
        self.cluster = cluster
        self.nodes = nodes
        self.rng = random.Random(seed)
        self.objects = {
            "lock": cluster.Lock(),
            "rlock": cluster.RLock(),
            "condition": cluster.Condition(cluster.Lock()),
            "barrier": cluster.Barrier(3),
            "semaphore": cluster.Semaphore(10**6),
        }
        self.stop, self.reports = cluster.Event(), cluster.Queue()
        self.processes: list[Any] = []
        self.killed: Counter[str] = Counter()
        self.told: Counter[tuple[str, int]] = Counter()
        self.refill()

    def refill(self) -> None:
        """Replaces the processes that have ended."""
        self.processes = [process for process in self.processes if process.exitcode is None]
        while len(self.processes) < PROCESSES:
            process = self.cluster.Process(target=use, args=(self.objects, self.stop, self.reports), daemon=True)
            with suppress(mp.NodeDiedError):  # its node was killed just now
                process.start()
                self.processes.append(process)

    def kill_process(self) -> None:
        """Kills a process at once."""
        victim = self.rng.choice(self.processes)
        if victim.exitcode is None:
            with suppress(ProcessLookupError):  # it has gone with its node
                os.kill(victim.pid, signal.SIGKILL)
                self.killed["process"] += 1

    def kill_node(self) -> None:
        """Kills a node, and adds one."""
        victim = self.rng.choice(self.nodes.nodes)
        cluster_nodes.kill(victim)
        self.nodes.nodes.remove(victim)
        self.nodes.add()
        self.killed["node"] += 1

    def check(self) -> None:
        """Acquires the locks here, too, and reads the reports. Fails if one tells of a wait that does not end."""
        for name in ("lock", "rlock"):
            try:
                assert self.objects[name].acquire(timeout=PATIENCE), f"{name} stays held"
                self.objects[name].release()
            except mp.OwnerDiedError as error:
                self.told[name, error.pid] += 1
        while True:
            try:
                what, name, detail = self.reports.get(timeout=0.001)
            except Empty:
                break
            assert what == "died", (what, name, detail)
            self.told[name, detail] += 1

    def finish(self) -> None:
        """Lets the processes end. Fails if one hangs, an object is not free, or a death was told twice."""
        self.stop.set()
        for process in self.processes:
            process.join(2 * PATIENCE)
            assert process.exitcode is not None, f"{process} hangs"
        self.check()
        for name, each in self.objects.items():
            facts = each._call("facts")
            assert not facts["waiters"] and not facts["holders"], (name, facts)
        assert all(count == 1 for count in self.told.values()), self.told
