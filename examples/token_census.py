#!/usr/bin/env python3
"""Counts the names in the source code of the standard library, with many processes.

Reads every Python file of the running interpreter's standard library, splits it into tokens and counts the names
(without keywords). One queue sends the files to the workers; another returns the counts. This process also counts all
files alone, and both results must be equal.

    python examples/token_census.py                          with workers, and without
    python examples/token_census.py --start-method all       under fork, spawn and forkserver
    python examples/token_census.py --kill-one               SIGKILL a worker halfway: no count is lost
    python examples/token_census.py --package multiprocessing    with the standard library's processes
"""

from __future__ import annotations

import argparse
import importlib
import io
import keyword
import os
import queue
import signal
import sys
import sysconfig
import time
import tokenize
from collections import Counter

METHODS = ("fork", "spawn", "forkserver")
STALLED = 30.0  # seconds without a message after which the census is given up. It happens only if a message was lost.


def standard_library(limit: int | None) -> list[str]:
    """Returns the standard library's files, the largest first, so that all workers finish at about the same time."""
    files = []
    for folder, subfolders, names in os.walk(sysconfig.get_path("stdlib")):
        subfolders[:] = [s for s in subfolders if s not in ("site-packages", "dist-packages", "__pycache__")]
        files += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    files.sort(key=lambda path: (-os.path.getsize(path), path))
    return files[:: max(1, len(files) // limit)][:limit] if limit else files  # small and large files


def count_names(path: str) -> tuple[dict[str, int], int]:
    """Counts the names in a file. Returns the counts and the size of the file.

    Some files of the library's tests are not valid Python on purpose. Of these, the part before the error is counted.
    """
    with open(path, "rb") as file:
        source = file.read()
    names: Counter[str] = Counter()
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                names[token.string] += 1
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        pass
    return dict(names), len(source)


def work(tasks, log) -> None:
    """A worker: counts one file after the other, until it receives None."""
    while (task := tasks.get()) is not None:
        number, path = task
        log.put((number, *count_names(path)))


class Progress:
    """Shows the progress: on a terminal in one line that changes, otherwise in a new line every few seconds."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.last = label, total, time.monotonic()
        self.terminal = sys.stderr.isatty()

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now - self.last < (0.1 if self.terminal else 5.0):
            return
        self.last = now
        line = f"{self.label}: {done} of {self.total} files"
        print(f"\r\033[K{line}" if self.terminal else f"{line}\n", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Census:
    """The counts of the files so far. A file that two workers have counted, because it was sent again, counts once."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.seen: set[int] = set()
        self.names: Counter[str] = Counter()
        self.bytes = 0
        self.seconds = 0.0

    def add(self, number: int, names: dict[str, int], size: int) -> None:
        if number not in self.seen:
            self.seen.add(number)
            self.names.update(names)
            self.bytes += size

    def missing(self) -> list[tuple[int, str]]:
        return [(n, path) for n, path in enumerate(self.files) if n not in self.seen]

    def agrees_with(self, other: Census) -> bool:
        return self.seen == other.seen and self.bytes == other.bytes and self.names == other.names

    def speed(self) -> str:
        return (
            f"{self.seconds:6.1f} s  {self.bytes / self.seconds / 1e6:6.2f} MB/s  "
            f"{len(self.seen) / self.seconds:6.0f} files/s"
        )


def alone(files: list[str]) -> Census:
    """Counts all files in this process."""
    census, progress = Census(files), Progress("one process", len(files))
    began = time.perf_counter()
    for number, path in enumerate(files):
        census.add(number, *count_names(path))
        progress.show(number + 1)
    census.seconds = time.perf_counter() - began
    progress.clear()
    return census


def together(mp, method: str, files: list[str], workers: int, kill_one: bool) -> Census:
    """Counts all files with workers. kill_one: kills one worker halfway.

    When a worker is killed, it may be waiting for a file, counting one, or sending the result. This process does not
    know which. But each file is in a queue, or with a worker, or counted. So when a worker has died and both queues are
    empty, all files that are not counted are sent again. `Census` ignores a file that is counted twice.
    """
    context = mp.get_context(method)
    tasks, log = context.Queue(), context.Queue()
    census, progress = Census(files), Progress(f"{method}, {workers} workers", len(files))
    began = heard = time.perf_counter()

    def hire():
        worker = context.Process(target=work, args=(tasks, log), daemon=True)
        worker.start()
        return worker

    crew = [hire() for _ in range(workers)]
    for task in enumerate(files):
        tasks.put(task)
    owed = False  # a worker has died, and its file was not sent again yet
    while len(census.seen) < len(files):
        try:
            census.add(*log.get(timeout=0.1))
            heard = time.perf_counter()
            progress.show(len(census.seen))
        except queue.Empty:
            if time.perf_counter() - heard > STALLED:
                lost = len(census.missing())
                raise SystemExit(f"{method}: no message for {STALLED:.0f} s; {lost} files were not counted") from None
        if kill_one and len(census.seen) >= len(files) // 2:
            kill_one = False
            os.kill(crew[0].pid, signal.SIGKILL)
            crew[0].join()
            print(f"{method}: killed worker {crew[0].pid} after {len(census.seen)} of {len(files)} files")
        for place, worker in enumerate(crew):
            if worker.exitcode:
                crew[place], owed = hire(), True
        if owed and tasks.empty() and log.empty():
            owed = False
            again = census.missing()
            for task in again:
                tasks.put(task)
            print(f"{method}: files that were not counted and are sent again: {len(again)}")
    for _ in crew:
        tasks.put(None)
    for worker in crew:
        worker.join()
    census.seconds = time.perf_counter() - began
    progress.clear()
    return census


def arguments() -> argparse.Namespace:
    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer above zero")
        return int(text)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start-method", choices=(*METHODS, "all"), help="default: the package's own default")
    parser.add_argument("--workers", type=positive, metavar="N", help="default: one per CPU that this process may use")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N files, of all sizes")
    parser.add_argument("--kill-one", action="store_true", help="SIGKILL one worker when half of the files are counted")
    parser.add_argument("--package", default="procession", metavar="NAME", help="or multiprocessing, for comparison")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        mp = importlib.import_module(options.package)  # in your program: import procession as mp
    except ImportError as error:
        raise SystemExit(f"{options.package} cannot be imported: {error}") from None
    methods = METHODS if options.start_method == "all" else (options.start_method or mp.get_start_method(),)
    workers = options.workers or len(os.sched_getaffinity(0))

    files = standard_library(options.limit)
    reference = alone(files)
    print(
        f"{len(files)} files, {reference.bytes / 1e6:.1f} MB of Python {sys.version.split()[0]}'s standard library, "
        f"with {options.package}"
    )
    print(f"{'one process':24}{reference.speed()}")
    failures = 0
    for method in methods:
        census = together(mp, method, files, workers, options.kill_one)
        equal = census.agrees_with(reference)
        failures += not equal
        verdict = "the same counts" if equal else "NOT THE COUNTS OF ONE PROCESS"
        print(f"{f'{method}, {workers} workers':24}{census.speed()}   {verdict}")
    print("most frequent:", ", ".join(f"{name} {count}" for name, count in reference.names.most_common(10)))
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
