#!/usr/bin/env python3
"""What processes cost that do nothing: memory of their own under each start method, and CPU time while they wait.

Memory is what the kernel would get back if one process ended (USS: the private pages of /proc/PID/smaps_rollup), beside
that of a bare interpreter. CPU time is that of 200 processes in ten seconds, each in another kind of wait.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SIGNAL = "print('up', flush=True); import sys; sys.stdin.readline()"


def own_memory(pid: int) -> int:
    """Bytes that only this process has mapped."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(1024 * int(line.split()[1]) for line in file if line.startswith("Private_"))


def cpu_time(pid: int) -> float:
    """Seconds of CPU time that a process has taken."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(event: Any, up: Any) -> None:
    up.release()
    event.wait()


def idle_worker(mp: Any, method: str) -> float:
    """Bytes of an idle child's own memory: the median of five."""
    context = mp.get_context(method)
    event, up = context.Event(), context.Semaphore(0)
    children = [context.Process(target=wait_for, args=(event, up)) for _ in range(5)]
    for child in children:
        child.start()
    for _ in children:
        up.acquire()
    memory = statistics.median(own_memory(child.pid) for child in children)
    event.set()
    for child in children:
        child.join()
    return memory


def bare_interpreter() -> int:
    with subprocess.Popen([sys.executable, "-c", SIGNAL], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return own_memory(process.pid)


def wait_somehow(number: int, objects: dict[str, Any], up: Any) -> None:
    up.release()
    queue, event, lock, condition = (objects[name] for name in ("queue", "event", "lock", "condition"))
    if number % 4 == 0:
        queue.get()
    elif number % 4 == 1:
        event.wait()
    elif number % 4 == 2:
        with lock:
            pass
    else:
        with condition:
            condition.wait()


def waiting(mp: Any, count: int, seconds: float) -> float:
    """The share of one CPU that `count` waiting processes take."""
    context = mp.get_context("fork")
    up = context.Semaphore(0)
    objects = {"queue": context.Queue(), "event": context.Event(), "lock": context.Lock()}
    objects["condition"] = context.Condition()
    objects["lock"].acquire()
    children = [context.Process(target=wait_somehow, args=(n, objects, up), daemon=True) for n in range(count)]
    for child in children:
        child.start()
    for _ in children:
        up.acquire()
    time.sleep(1)  # the last of them has begun to wait
    everyone = [os.getpid(), *(child.pid for child in children)]
    before = sum(map(cpu_time, everyone))
    began = time.perf_counter()
    time.sleep(seconds)
    share = (sum(map(cpu_time, everyone)) - before) / (time.perf_counter() - began)
    for child in children:
        child.kill()
    for child in children:
        child.join()
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=200, metavar="N")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--package", default="procession", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        from benchmarks import peers

        mp = peers.load(options.package)
        value = (
            waiting(mp, options.processes, options.seconds) if options.one == "cpu" else idle_worker(mp, options.one)
        )
        print(value)
        return 0

    def measure(what: str, package: str) -> float:
        command = [sys.executable, __file__, "--one", what, "--package", package]
        command += ["--processes", str(options.processes), "--seconds", str(options.seconds)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)

    bare = bare_interpreter()
    print(f"a bare interpreter: {bare / 1e6:.2f} MB of its own")
    for method in ("fork", "spawn", "forkserver"):
        ours, theirs = (measure(method, package) for package in ("procession", "multiprocessing"))
        print(
            f"an idle process of {method}: {ours / 1e6:.2f} MB (multiprocessing {theirs / 1e6:.2f} MB, "
            f"bare {ours / bare:.2f}×)"
        )
    share = measure("cpu", "procession")
    print(f"{options.processes} waiting processes: {100 * share:.3f} % of one CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
