"""What every row of the benchmarks is made of: a function that is timed, in an interpreter of its own.

A row's module ends with `main(rows)`, so that one measurement is one command, and prints one line of JSON:

    python -m benchmarks.rows.queue --row small-tuples --package procession --seconds 0.5

What is imported here is in every program that is measured, and makes each fork of it slower: so next to nothing is.
"""

from __future__ import annotations

import os
import sys

from benchmarks import peers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Timed = Callable[[Any, int], float]  # (the package, how often) -> seconds that it took


class Row:
    """target: so many times faster than multiprocessing it has to be. first: how often in the trial run that finds out
    how often is enough. peers: of those in peers.py, whom it can be measured with besides multiprocessing. pin: "none":
    the scheduler places the processes; "one": all on one CPU; "two": parent and child on one each.
    """

    def __init__(
        self, name: str, title: str, run: Timed, target: float | None, first: int, peers: tuple[str, ...], pin: str
    ) -> None:
        self.name = name
        self.title = title
        self.run = run
        self.target = target
        self.first = first
        self.peers = peers
        self.pin = pin


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
    cpus = sorted(os.sched_getaffinity(0)) if parent else list(map(int, os.environ["BENCH_CPUS"].split(",")))
    if parent:
        os.environ["BENCH_CPUS"], os.environ["BENCH_PIN"] = ",".join(map(str, cpus)), pin
    if pin == "one" or (pin == "two" and parent):
        os.sched_setaffinity(0, {cpus[0]})
    elif pin == "two":
        os.sched_setaffinity(0, {cpus[1 % len(cpus)]})


def pin_child() -> None:
    """What a child calls first of all."""
    pin_to(os.environ["BENCH_PIN"], parent=False)


def main(rows: Rows) -> None:
    """options: --row NAME --package NAME [--seconds S] [--pin none|one|two]"""
    given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    done = rows.measure(given["--row"], given["--package"], float(given.get("--seconds", 0.5)), given.get("--pin"))
    print(f'{{"count": {done["count"]}, "seconds": {done["seconds"]!r}}}')
