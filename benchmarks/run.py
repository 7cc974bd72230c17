#!/usr/bin/env python3
"""Procession beside multiprocessing, measured in one run.

Every measurement has an interpreter of its own, whose start is not in the time. In each round a row is measured with
one package and at once with the other (which of them goes first changes from round to round), and their ratio is taken:
what disturbs the machine disturbs both. The table shows the median of the ratios and, as their spread, the least and
the greatest.

    python benchmarks/run.py                    all rows
    python benchmarks/run.py --row queue        those whose name or title holds this
    python benchmarks/run.py --quick --check    within a minute; exit status 1 if a target is missed
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import Row  # noqa: E402  (found only now)

MODULES = ("queue", "connection", "sync", "start", "values")
LONGEST = 120  # seconds that one measurement may take


@dataclass
class Result:
    row: Row
    ours: float  # seconds per operation, the median of the rounds
    theirs: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def missed(self) -> bool:
        return self.row.target is not None and self.ratio < self.row.target


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith(("model name", "CPU part"))]
    return (
        f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def measure(module: str, row: Row, package: str, options: argparse.Namespace) -> float:
    """Seconds per operation, from an interpreter of its own."""
    command = [sys.executable, "-m", f"benchmarks.rows.{module}", "--row", row.name, "--package", package]
    command += ["--seconds", str(options.seconds)] + (["--pin", options.pin] if options.pin else [])
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{row.name} with {package}: no end after {LONGEST} s") from None
    if done.returncode:
        raise SystemExit(f"{row.name} with {package} failed:\n{done.stderr}")
    measured = json.loads(done.stdout)
    return measured["seconds"] / measured["count"]


def compare(module: str, row: Row, options: argparse.Namespace) -> Result:
    packages = [options.package, options.against]
    times: dict[str, list[float]] = {package: [] for package in packages}
    for number in range(options.rounds):
        for package in packages if number % 2 == 0 else reversed(packages):
            times[package].append(measure(module, row, package, options))
    ours, theirs = (times[package] for package in packages)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return Result(row, statistics.median(ours), statistics.median(theirs), ratios)


def duration(seconds: float) -> str:
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cells(result: Result) -> list[str]:
    target = result.row.target
    return [
        result.row.title,
        duration(result.ours),
        duration(result.theirs),
        f"{result.ratio:.2f}×",
        f"{min(result.ratios):.2f}-{max(result.ratios):.2f}",
        "" if target is None else f"≥ {target:g}× " + ("MISSED" if result.missed else "holds"),
    ]


def table(header: list[str], lines: list[list[str]], markdown: bool) -> str:
    widths = [max(len(line[n]) for line in [header, *lines]) for n in range(len(header))]

    def line(texts: list[str]) -> str:
        padded = [
            text.ljust(w) if n == 0 else text.rjust(w) for n, (text, w) in enumerate(zip(texts, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip()

    rule = "|" + "|".join("-" * (w + 1) + ("-" if n == 0 else ":") for n, w in enumerate(widths)) + "|"
    return "\n".join([line(header), *([rule] if markdown else []), *(line(texts) for texts in lines)])


def save(results: list[Result], options: argparse.Namespace) -> Path:
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.json")
    about: dict[str, Any] = {"machine": machine(), **vars(options)}
    about["rows"] = {
        r.row.name: {"ours": r.ours, "theirs": r.theirs, "ratios": r.ratios, "target": r.row.target} for r in results
    }
    path.write_text(json.dumps(about, indent=1) + "\n")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="procession", help=argparse.SUPPRESS)
    parser.add_argument("--against", default="multiprocessing", metavar="NAME", help="another package to compare with")
    parser.add_argument(
        "--row", action="append", default=[], metavar="TEXT", help="only rows that hold TEXT; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default 7")
    parser.add_argument(
        "--seconds", type=float, default=0.5, metavar="S", help="of one measurement, about; default 0.5"
    )
    parser.add_argument("--pin", choices=("none", "one", "two"), help="bind parent and child to one CPU, or one each")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.2 s")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 3, 0.2
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds have to be above zero")
    return options


def main() -> int:
    options = arguments()
    chosen = [
        (module, row)
        for module in MODULES
        for row in importlib.import_module(f"benchmarks.rows.{module}").rows.values()
        if not options.row or any(text in f"{module} {row.name} {row.title}" for text in options.row)
    ]
    if not chosen:
        raise SystemExit(f"no row holds {' or '.join(options.row)}")
    print(machine())
    print(f"{options.rounds} rounds, medians; a ratio is how many times faster {options.package} is\n", flush=True)
    results = []
    for module, row in chosen:
        print(f"... {row.title}", file=sys.stderr, flush=True)
        results.append(compare(module, row, options))
    header = ["one operation of", options.package, options.against, "ratio", "spread", "target"]
    print(table(header, [cells(result) for result in results], options.markdown))
    print(f"\nwritten to {save(results, options).relative_to(ROOT)}")
    missed = [result.row.name for result in results if result.missed]
    if missed:
        print("below target:", ", ".join(missed))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
