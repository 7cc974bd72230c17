"""What every row of the benchmarks is made of: a function that is timed, in an interpreter of its own.

A row's module ends with `main(__name__)`, so that one measurement is one command, and prints one line of JSON:

    python -m benchmarks.rows.queue --row small-tuples --package procession --seconds 0.5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import peers

Timed = Callable[[Any, int], float]  # (the package, how often) -> seconds that it took


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    run: Timed
    target: float | None  # so many times faster than multiprocessing it has to be
    first: int  # how often in the trial run that finds out how often is enough
    peers: tuple[str, ...]  # of those in peers.py, whom it can be measured with besides multiprocessing
    pin: str  # "none": the scheduler places the processes; "one": all on one CPU; "two": parent and child on one each


class Rows(dict[str, Row]):
    """The rows of one module, by name. peers: of rows that name none."""

    def __init__(self, peers: tuple[str, ...] = peers.WHOLE) -> None:
        self.peers = peers

    def row(
        self,
        title: str,
        *,
        target: float | None = None,
        first: int = 1000,
        pin: str = "none",
        peers: tuple[str, ...] | None = None,
    ) -> Callable[[Timed], Timed]:
        def add(run: Timed) -> Timed:
            name = run.__name__.replace("_", "-")
            self[name] = Row(name, title, run, target, first, self.peers if peers is None else peers, pin)
            return run

        return add

    def measure(self, name: str, package: str, seconds: float, pin: str | None) -> dict[str, float]:
        """Runs a row for about so many seconds, after a trial run that also warms everything up."""
        row = self[name]
        pin_to(pin or row.pin, parent=True)
        mp = peers.load(package)
        trial = row.run(mp, row.first)
        count = max(row.first, int(row.first * seconds / trial))
        return {"count": count, "seconds": row.run(mp, count)}


def pin_to(pin: str, parent: bool) -> None:
    """Binds this process to a CPU. The child of a row that is pinned calls this for itself."""
    cpus = sorted(os.sched_getaffinity(0)) if parent else json.loads(os.environ["BENCH_CPUS"])
    if parent:
        os.environ["BENCH_CPUS"], os.environ["BENCH_PIN"] = json.dumps(cpus), pin
    if pin == "one" or (pin == "two" and parent):
        os.sched_setaffinity(0, {cpus[0]})
    elif pin == "two":
        os.sched_setaffinity(0, {cpus[1 % len(cpus)]})


def pin_child() -> None:
    """What a child calls first of all."""
    pin_to(os.environ["BENCH_PIN"], parent=False)


def main(rows: Rows) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--row", choices=rows, required=True)
    parser.add_argument("--package", required=True)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--pin", choices=("none", "one", "two"))
    options = parser.parse_args()
    json.dump(rows.measure(options.row, options.package, options.seconds, options.pin), sys.stdout)
    print()
