#!/usr/bin/env python3
"""Counts the names in the source code of the standard library on a cluster of two nodes, one of which is killed.

Starts a scheduler and two nodes of Dask on this machine, sends the files' names to a pool over both, kills a node with
SIGKILL halfway, and compares the counts with those of this process alone. With `retries=1` what the dead node was doing
is done by the other one.

    pip install procession[dask]
    python examples/cluster_census.py

On real machines the nodes are started there (`dask worker ADDRESS`), and the rest stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import token_census

import procession as mp

PATIENCE = 60.0  # seconds in which the cluster has to be there


def start(stack: ExitStack, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a process of Dask, which is killed at the end of the program."""
    environment = {**os.environ, "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", f"distributed.cli.{module}", "--host", "127.0.0.1", "--no-dashboard"]
    process = subprocess.Popen([*command, *arguments], env=environment, start_new_session=True)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def started_cluster(stack: ExitStack, nodes: int) -> tuple[str, list[subprocess.Popen[bytes]]]:
    """Starts a scheduler and nodes. Returns the scheduler's address, and the nodes."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    start(stack, "dask_scheduler", "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
    address = within_patience(lambda: address_in(folder / "scheduler.json"))
    options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", str(folder))
    return address, [start(stack, "dask_worker", address, *options, "--name", f"node-{n}") for n in range(nodes)]


def address_in(path: Path) -> str:
    """Returns the address in a scheduler's file; empty: it is not there yet."""
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError):
        return ""


def within_patience(condition):
    """Waits until condition() is true, and returns its value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            sys.exit("the cluster did not start")
        time.sleep(0.05)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="number of files (default: all)")
    files = token_census.standard_library(parser.parse_args().limit)
    began = time.perf_counter()
    expected: Counter[str] = Counter()
    for path in files:
        expected.update(token_census.count_names(path)[0])
    alone = time.perf_counter() - began

    with ExitStack() as stack:
        address, nodes = started_cluster(stack, 2)
        cluster = stack.enter_context(mp.cluster(address))
        within_patience(lambda: len(cluster.nodes()) == len(nodes))
        cluster.upload(token_census.__file__)
        began = time.perf_counter()
        counts: Counter[str] = Counter()
        with cluster.Pool(retries=1) as pool:
            for done, (names, _) in enumerate(pool.imap_unordered(token_census.count_names, files, chunksize=8), 1):
                counts.update(names)
                if done == len(files) // 2:
                    os.kill(nodes[0].pid, signal.SIGKILL)
                    print(f"after {done} of {len(files)} files the node {nodes[0].pid} was killed")
        spread = time.perf_counter() - began
        left = len(cluster.nodes())

    if counts != expected:
        sys.exit("the counts differ")
    print(f"{sum(counts.values()):,} names in {len(files):,} files, counted by this process alone in {alone:.1f} s")
    print(f"the same counts from the cluster in {spread:.1f} s, with {left} node left at the end")


if __name__ == "__main__":
    main()
