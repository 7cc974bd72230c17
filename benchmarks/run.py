#!/usr/bin/env python3
"""Procession beside multiprocessing and other packages, measured in one run.

Every measurement has an interpreter of its own, whose start is not in the time. In each round every row is measured
with one package and at once with the other (which of them goes first changes from round to round), and their ratio is
taken: what disturbs the machine disturbs both. The table shows the median of the ratios and, as their spread, the least
and the greatest. Beside them stands a limit, where there is one: what the machine allows
(`benchmarks/limits.py`). There are as many rounds as the time allows, and at least one.

    python benchmarks/run.py                    all rows, in 15 minutes
    python benchmarks/run.py --row queue        those whose name or title holds this
    python benchmarks/run.py --quick --check    within some minutes; exit status 1 if a target is missed
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import peers  # noqa: E402  (found only now)
from benchmarks.limits import LIMITS, PROGRAM, Limit  # noqa: E402
from benchmarks.measure import Row  # noqa: E402
from benchmarks.picture import picture  # noqa: E402

MODULES = [path.stem for path in sorted((ROOT / "benchmarks" / "rows").glob("[!_]*.py"))]
LONGEST = 120  # seconds that one measurement may take
LIMIT = "limit"  # in place of a package: what the machine allows
PEER_ROUNDS = 1  # in which the peers besides the baseline are measured: they are many


@dataclass
class Result:
    """A row, and seconds per operation of each package, one for each round."""

    module: str
    row: Row
    package: str
    baseline: str
    times: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # packages that cannot do it, and how that showed

    def ratios(self, other: str) -> list[float]:
        """How many times faster ours is, round by round."""
        return [b / a for a, b in zip(self.times[self.package], self.times.get(other, []), strict=False)]

    def ratio(self, other: str) -> float:
        return statistics.median(self.ratios(other))

    @property
    def missed(self) -> bool:
        if self.baseline in self.failed:
            return False
        return self.row.target is not None and self.ratio(self.baseline) < self.row.target

    @property
    def key(self) -> str:
        return f"{self.module}/{self.row.name}"

    @property
    def limit(self) -> Limit | None:
        return LIMITS.get(self.key)

    def over_limit(self, plus: float = 0.0) -> float:
        """How many times the limit ours costs, `plus` seconds left out: the median of the rounds."""
        pairs = zip(self.times[self.package], self.times[LIMIT], strict=False)
        return statistics.median((ours - plus) / limit for ours, limit in pairs)

    @property
    def beyond_limit(self) -> bool:
        limit = self.limit
        if limit is None or limit.most is None or LIMIT not in self.times:
            return False
        return self.over_limit(limit.plus) > limit.most

    def summary(self) -> dict[str, Any]:
        about = {package: {"seconds": times, "ratios": self.ratios(package)} for package, times in self.times.items()}
        limit = self.limit
        return {
            "title": self.row.title,
            "limit": limit and {"about": limit.about, "most": limit.most, "plus": limit.plus, "why": limit.why},
            "target": self.row.target,
            "ratio": self.ratio(self.baseline),
            "packages": about,
            "failed": self.failed,
        }


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith(("model name", "CPU part"))]
    return (
        f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def measure(result: Result, package: str, options: argparse.Namespace) -> None:
    """One more measurement, in an interpreter of its own. What a peer cannot do is noted, and not tried again."""
    if package in result.failed:
        return
    row = result.row
    if package == LIMIT:
        command = [sys.executable, "-m", "benchmarks.limits", "--row", result.key]
    else:
        command = [sys.executable, "-m", f"benchmarks.rows.{result.module}", "--row", row.name, "--package", package]
    command += ["--seconds", str(options.seconds)] + (["--pin", options.pin] if options.pin else [])
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=LONGEST)
        error = done.stderr.strip() if done.returncode else ""
    except subprocess.TimeoutExpired:
        error = f"no end after {LONGEST} s"
    if not error:
        measured = json.loads(done.stdout.splitlines()[-1])
        result.times.setdefault(package, []).append(measured["seconds"] / measured["count"])
    elif package == options.package:
        raise SystemExit(f"{row.name} with {package} failed:\n{error}")
    else:
        result.failed[package] = error.splitlines()[-1]


def run_rounds(results: list[Result], others: list[str], options: argparse.Namespace) -> int:
    """Measures everything once, and again while there is time. Returns the number of rounds."""
    began = time.monotonic()
    for number in range(options.rounds):
        pairs = 0.0  # seconds that this round takes without the peers
        for result in results:
            row_began = time.monotonic()
            print(f"... round {number + 1}: {result.row.title}", file=sys.stderr, flush=True)
            pair = [options.package, options.against]
            if result.limit:
                pair.insert(1, LIMIT)
            for package in pair if number % 2 == 0 else reversed(pair):
                measure(result, package, options)
            pairs += time.monotonic() - row_began
            if number < PEER_ROUNDS:
                for package in others:
                    if package in result.row.peers:
                        measure(result, package, options)
        if time.monotonic() + 1.1 * pairs > began + 60 * options.minutes:
            break
    return number + 1


@contextmanager
def hogs(count: int) -> Iterator[None]:
    """So many processes that take all the CPU time that they can get."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in busy:
            hog.kill()
            hog.wait()


def duration(seconds: float) -> str:
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def cells(result: Result, others: list[str]) -> list[str]:
    target, baseline = result.row.target, result.baseline
    line = [result.row.title, duration(statistics.median(result.times[result.package]))]
    if baseline in result.failed:
        line += ["cannot", "", "", ""]
    else:
        ratios = result.ratios(baseline)
        line += [
            duration(statistics.median(result.times[baseline])),
            f"{result.ratio(baseline):.2f}×",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
            "" if target is None else f"≥ {target:g}× " + ("MISSED" if result.missed else "holds"),
        ]
    limit = result.limit
    if limit is None or LIMIT not in result.times:
        line += ["", "", ""]
    else:
        holds = "MISSED" if result.beyond_limit else "holds"
        line += [
            duration(statistics.median(result.times[LIMIT])),
            f"{result.over_limit():.2f}×",
            f"{limit.target} {holds}" if limit.target else "",
        ]
    beside = [f"{other} {result.ratio(other):.3g}×" for other in others if other in result.times]
    beside += [f"{other} cannot" for other in others if other in result.failed]
    return [*line, ", ".join(beside)]


def table(header: list[str], lines: list[list[str]], markdown: bool) -> str:
    widths = [max(len(line[n]) for line in [header, *lines]) for n in range(len(header))]
    left = (0, len(header) - 1)

    def line(texts: list[str]) -> str:
        padded = [
            text.ljust(w) if n in left else text.rjust(w) for n, (text, w) in enumerate(zip(texts, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |" if markdown else "  ".join(padded).rstrip()

    rule = "|" + "|".join("-" * (w + 1) + ("-" if n in left else ":") for n, w in enumerate(widths)) + "|"
    return "\n".join([line(header), *([rule] if markdown else []), *(line(texts) for texts in lines)])


def save(results: list[Result], rounds: int, others: list[str], options: argparse.Namespace) -> list[Path]:
    """The numbers and the picture, for whoever ran it; with --publish also for the README."""
    about = {
        "machine": machine(),
        "package": options.package,
        "baseline": options.against,
        "peers": {name: peers.version(name) for name in others},
        "rounds": rounds,
        "seconds": options.seconds,
        "rows": {f"{result.module}/{result.row.name}": result.summary() for result in results},
    }
    folders = [ROOT / "benchmarks" / "results" / time.strftime("%Y%m%d-%H%M%S")]
    folders += [ROOT / "docs" / "measured"] if options.publish else []
    for path in folders:
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
        path.with_suffix(".svg").write_text(picture(about))
    return folders


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="procession", help=argparse.SUPPRESS)
    parser.add_argument("--against", default=peers.BASELINE, metavar="NAME", help="compare with another package")
    parser.add_argument(
        "--row", action="append", default=[], metavar="TEXT", help="only rows that hold TEXT; repeatable"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="at most; default 7")
    parser.add_argument("--minutes", type=float, default=14, metavar="M", help="no new round after that; default 14")
    parser.add_argument(
        "--seconds", type=float, default=0.25, metavar="S", help="of one measurement, about; default 0.25"
    )
    parser.add_argument("--pin", choices=("none", "one", "two"), help="bind parent and child to one CPU, or one each")
    parser.add_argument("--hogs", type=int, default=0, metavar="N", help="beside N processes that keep a CPU busy")
    parser.add_argument("--alone", action="store_true", help="no other package than the one to compare with")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 0.2 s, --alone")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--publish", action="store_true", help="write docs/measured.json and .svg too")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.alone = 3, 0.2, True
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds have to be above zero")
    return options


def main() -> int:
    options = arguments()
    results = [
        Result(module, row, options.package, options.against)
        for module in MODULES
        for row in importlib.import_module(f"benchmarks.rows.{module}").rows.values()
        if not options.row or any(text in f"{module} {row.name} {row.title}" for text in options.row)
    ]
    if not results:
        raise SystemExit(f"no row holds {' or '.join(options.row)}")
    wanted = dict.fromkeys(name for result in results for name in result.row.peers if not options.alone)
    others = [name for name in wanted if peers.version(name)]
    print(machine())
    print("beside:", ", ".join(f"{name} {peers.version(name)}" for name in others) or "no others")
    missing = [name for name in wanted if name not in others]
    if missing:
        print("NOT INSTALLED, left out:", ", ".join(missing))
    sys.stdout.flush()
    # as pip does when it installs a package; the standard library is compiled, too
    if not PROGRAM.exists():
        print(f"NOT BUILT, some limits are left out: {PROGRAM.relative_to(ROOT)} (make bench builds it)")
    folder = importlib.util.find_spec(options.package).submodule_search_locations[0]
    compileall.compile_dir(folder, quiet=1)
    with hogs(options.hogs):
        rounds = run_rounds(results, others, options)
    print(f"{rounds} rounds, medians; a ratio is how many times faster {options.package} is\n")
    header = ["one operation of", options.package, options.against, "ratio", "spread", "target"]
    header += ["limit", "above it", "target", "and than others"]
    print(table(header, [cells(result, others) for result in results], options.markdown))
    for result in results:
        if result.limit and LIMIT in result.times:
            why = f". The rest: {result.limit.why}" if result.limit.why else ""
            print(f"limit of {result.row.title}: {result.limit.about}{why}")
    for result in results:
        for package, why in result.failed.items():
            print(f"{package} cannot do {result.row.name}: {why}")
    for path in save(results, rounds, others, options):
        print(f"\nwritten to {path.relative_to(ROOT)}.json and .svg")
    missed = [result.row.name for result in results if result.missed or result.beyond_limit]
    if missed:
        print("below target:", ", ".join(missed))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
