#!/usr/bin/env python3
"""How costs grow: tasks of a map, processes, objects, bytes of a message, members of one queue.

Each point is an operation of which the numbers differ, and what it costs for each unit. A line that is level costs the
same for each however many there are; one that rises by more than a fifth from the cheapest point on is told. Where the
machine's own costs are not level, the line of what the kernel does alone stands beside it, and the rise of our cost
beside it is told.

    python benchmarks/growth.py                 some minutes; prints the tables, and writes a picture for each line
    python benchmarks/growth.py --line tasks    lines whose name holds this
    python benchmarks/growth.py --check         exit status 1 if a line grows faster than it may
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MOST = 1.2  # how many times the cheapest unit of a smaller point a unit may cost


@dataclass
class Line:
    """about: what grows. unit: what one of it is. run: from a size to seconds for all of it. limit: seconds of what
    cannot be left out, without a package."""

    about: str
    unit: str
    sizes: list[int]
    run: Callable[[Any, int], float]
    limit: Callable[[int], float] | None = None


def negative(x: int) -> int:
    return -x


def nothing() -> None:
    pass


def tasks(mp: Any, size: int) -> float:
    with mp.get_context("fork").Pool(2) as pool:
        pool.map(negative, range(8))
        began = time.perf_counter()
        pool.map(negative, range(size), chunksize=max(1, min(1000, size // 16)))
        return time.perf_counter() - began


def children(mp: Any, size: int) -> float:
    """So many processes at the same time, which wait for one event."""
    context = mp.get_context("fork")
    event = context.Event()
    began = time.perf_counter()
    processes = [context.Process(target=event.wait) for _ in range(size)]
    for process in processes:
        process.start()
    event.set()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def forks(size: int) -> float:
    """As `children`, by os.fork alone: they wait for the end of a pipe."""
    import os

    reader, writer = os.pipe()
    began = time.perf_counter()
    pids = []
    for _ in range(size):
        if (pid := os.fork()) == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        pids.append(pid)
    os.close(writer)
    for pid in pids:
        os.waitpid(pid, 0)
    return time.perf_counter() - began


def objects(mp: Any, size: int) -> float:
    import gc

    gc.disable()  # Python's collector goes through all objects again and again while a million are made
    began = time.perf_counter()
    locks = [mp.Lock() for _ in range(size)]
    seconds = time.perf_counter() - began
    del locks
    return seconds


def answer_lengths(there: Any, back: Any) -> None:
    while (message := there.get()) is not None:
        back.put(len(message))


def repeats(size: int) -> int:
    """How often a message of `size` bytes is sent: 256 MiB in all, but at least 3 and at most 2000 times."""
    return max(3, min(2000, (256 << 20) // size))


def message_bytes(mp: Any, size: int) -> float:
    context = mp.get_context("fork")
    there, back = context.Queue(), context.Queue()
    child = context.Process(target=answer_lengths, args=(there, back))
    child.start()
    message = b"x" * size
    times = repeats(size)
    for _ in range(2):
        there.put(message)
        back.get()
    began = time.perf_counter()
    for _ in range(times):
        there.put(message)
        back.get()
    seconds = (time.perf_counter() - began) / times
    there.put(None)
    child.join()
    return seconds


def copies(size: int) -> float:
    """One copy into a shared file and one out of it, both into memory as it is after such messages: what is below
    250 MB is kept, what is above goes back to the kernel."""
    import mmap
    import os

    message = b"x" * size
    times = repeats(size)
    fd = os.memfd_create("message")
    os.ftruncate(fd, size)
    seconds = 0.0
    with mmap.mmap(fd, size) as shared, mmap.mmap(fd, size) as other:
        for n in range(-2, times):
            began = time.perf_counter()
            shared[:] = message
            arrived = other[:]
            seconds += time.perf_counter() - began if n >= 0 else 0
            del arrived
            if size > 250_000_000:
                shared.madvise(mmap.MADV_REMOVE)
    os.close(fd)
    return seconds / times


MESSAGES = 100_000


def take(queue: Any, ready: Any, done: Any, count: int) -> None:
    ready.release()
    for _ in range(count):
        queue.get()
    done.release()


def members(mp: Any, size: int) -> float:
    """So many consumers of one queue, of which this process is the producer: seconds for `size` messages."""
    context = mp.get_context("fork")
    queue, ready, done = context.Queue(), context.Semaphore(0), context.Semaphore(0)
    share = max(1, MESSAGES // size)
    consumers = [context.Process(target=take, args=(queue, ready, done, share)) for _ in range(size)]
    for consumer in consumers:
        consumer.start()
    for _ in consumers:
        ready.acquire()
    began = time.perf_counter()
    for number in range(share * size):
        queue.put(number)
    for _ in consumers:
        done.acquire()
    seconds = time.perf_counter() - began
    for consumer in consumers:
        consumer.join()
    return seconds / share


LINES = {
    "tasks": Line("tasks of one map", "task", [10**n for n in range(3, 8)], tasks),
    "children": Line("processes at the same time, forked", "process", [1, 10, 100, 300, 1000], children, forks),
    "objects": Line("locks in one family", "lock", [10**n for n in range(1, 7)], objects),
    "message-bytes": Line(
        "bytes of one message",
        "byte",
        [10, 1000, 100_000, 10**6, 10**7, 10**8, 10**9, 1 << 32],
        message_bytes,
        copies,
    ),
    "members": Line("consumers of one queue", "message", [2, 5, 20, 100, 500], members),
}
# What a message of few bytes costs is the cost of a message; there bytes are compared from here on.
FROM = {"message-bytes": 10**6, "children": 10, "tasks": 10**4, "objects": 1000}


def measure(package: str, line: str, size: int) -> float | None:
    """Seconds in an interpreter of its own: the least of three. None: it cannot be done here."""
    command = [sys.executable, __file__, "--one", line, "--size", str(size), "--package", package]
    seconds = []
    for _ in range(3):
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            print(f"{line} of {size}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        seconds.append(float(done.stdout))
        if seconds[-1] > 20:
            break
    return min(seconds)


def too_steep(line: str, points: list[tuple[int, float]], limits: list[tuple[int, float]]) -> float:
    """How many times the cheapest unit of the smaller points a unit of a later point costs, at most. Where there is a
    limit, a unit is what the limit costs."""
    unit = dict(limits)
    costs = [(size, seconds / unit.get(size, size)) for size, seconds in points if size >= FROM.get(line, 0)]
    ratios = [cost / min(c for _, c in costs[: n + 1]) for n, (_, cost) in enumerate(costs)]
    return max(ratios, default=1.0)


def picture(about: str, unit: str, lines: dict[str, list[tuple[int, float]]]) -> str:
    """An SVG with logarithmic axes: how many there are, and what each costs."""
    import math

    width, height, left, bottom = 560, 300, 70, 250
    points = [(size, seconds / size) for line in lines.values() for size, seconds in line]
    xs = [math.log10(size) for size, _ in points]
    ys = [math.log10(cost) for _, cost in points]
    x0, x1, y0, y1 = min(xs), max(xs) or 1, math.floor(min(ys)), math.ceil(max(ys))

    def at(size: int, cost: float) -> str:
        x = left + (math.log10(size) - x0) / max(x1 - x0, 1e-9) * (width - left - 20)
        y = bottom - (math.log10(cost) - y0) / max(y1 - y0, 1) * (bottom - 50)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(about)}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="bold">{escape(about)}: what each {escape(unit)} costs</text>',
    ]
    for power in range(y0, y1 + 1):
        y = bottom - (power - y0) / max(y1 - y0, 1) * (bottom - 50)
        label = next(f"{10.0**power * scale:g} {u}" for u, scale in UNITS if power >= -scale_power(scale))
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 20}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">{label}</text>')
    for size in sorted({size for size, _ in points}):
        x = at(size, 10.0**y0).split(",")[0]
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle" fill="#555555">{size:.3g}</text>')
    for colour, (package, line) in zip(("#3a6ea5", "#e76f51", "#888888"), lines.items(), strict=False):
        path = " ".join(at(size, seconds / size) for size, seconds in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for size, seconds in line:
            x, y = at(size, seconds / size).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        place = left + 120 * list(lines).index(package)
        parts.append(f'<text x="{place}" y="{height - 10}" fill="{colour}">{escape(package)}</text>')
    return "\n".join([*parts, "</svg>", ""])


UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9), ("ps", 1e12))


def scale_power(scale: float) -> int:
    return len(f"{scale:.0f}") - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line", action="append", default=[], metavar="TEXT", help="only lines with TEXT; repeatable")
    parser.add_argument("--most", type=int, default=1 << 62, metavar="N", help="no point beyond N")
    parser.add_argument("--alone", action="store_true", help="without multiprocessing beside it")
    parser.add_argument("--publish", action="store_true", help="write the pictures into docs")
    parser.add_argument("--check", action="store_true", help="exit status 1 if a line grows faster than it may")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--package", default="procession", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        from benchmarks import peers

        line = LINES[options.one]
        if options.package == "limit":
            assert line.limit is not None
            print(line.limit(options.size))
        else:
            print(line.run(peers.load(options.package), options.size))
        return 0
    steep = []
    folder = ROOT / "docs" / "growth" if options.publish else ROOT / "benchmarks" / "results" / "growth"
    folder.mkdir(parents=True, exist_ok=True)
    for name, line in LINES.items():
        if options.line and not any(text in name for text in options.line):
            continue
        lines: dict[str, list[tuple[int, float]]] = {}
        packages = ["procession"] if options.alone else ["procession", "multiprocessing"]
        for package in [*packages, *(["limit"] if line.limit else [])]:
            points = [(size, measure(package, name, size)) for size in line.sizes if size <= options.most]
            lines[package] = [(size, seconds) for size, seconds in points if seconds is not None]
        print(f"{line.about}: what each {line.unit} costs")
        for package, measured in lines.items():
            print(f"  {package}: " + ", ".join(f"{size:.3g}: {1e9 * s / size:.4g} ns" for size, s in measured))
        ratio = too_steep(name, lines["procession"], lines.get("limit", []))
        beside = ", beside the limit" if line.limit else ""
        verdict = " TOO STEEP" if ratio > MOST else ""
        print(f"  a later one costs at most {ratio:.2f} times the cheapest one before{beside}{verdict}")
        steep += [name] * (ratio > MOST)
        if any(lines.values()):
            (folder / f"{name}.svg").write_text(picture(line.about, line.unit, lines))
            (folder / f"{name}.json").write_text(json.dumps(lines) + "\n")
    return 1 if options.check and steep else 0


if __name__ == "__main__":
    sys.exit(main())
