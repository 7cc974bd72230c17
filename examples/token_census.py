#!/usr/bin/env python3
"""A census of the words of the standard library, taken by many processes.

Reads every Python file of the running interpreter's standard library, splits it into tokens and counts the names that
programmers chose (keywords are left out). One queue hands the files out to the workers; another brings the counts back.
The same census is taken by this process alone, and both must agree.

    python examples/token_census.py                          workers against none
    python examples/token_census.py --start-method all       under fork, spawn and forkserver
    python examples/token_census.py --kill-one               SIGKILL a worker halfway: nothing is lost
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
STALLED = 30.0  # seconds without any news after which the census is given up: never, if no message can be lost


def library(limit: int | None) -> list[str]:
    """The standard library's files, the largest first, so that no worker is left alone with a long one at the end."""
    files = []
    for folder, subfolders, names in os.walk(sysconfig.get_path("stdlib")):
        subfolders[:] = [s for s in subfolders if s not in ("site-packages", "dist-packages", "__pycache__")]
        files += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    files.sort(key=lambda path: (-os.path.getsize(path), path))
    return files[:: max(1, len(files) // limit)][:limit] if limit else files  # a slice has files of every size


def count_names(path: str) -> tuple[dict[str, int], int]:
    """How often each name occurs in a file, and the file's size. The library's tests have files that are no Python on
    purpose; of those, what precedes the error counts."""
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
    """A worker: takes one file after the other until it is told that there are no more."""
    while (task := tasks.get()) is not None:
        number, path = task
        log.put((number, *count_names(path)))


class Progress:
    """One line that is written over on a terminal; elsewhere a line every few seconds."""

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
    """The counts so far, by file: a file that is counted twice, because it was handed out again, still counts once."""

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
    """The census without workers."""
    census, progress = Census(files), Progress("one process", len(files))
    began = time.perf_counter()
    for number, path in enumerate(files):
        census.add(number, *count_names(path))
        progress.show(number + 1)
    census.seconds = time.perf_counter() - began
    progress.clear()
    return census


def together(mp, method: str, files: list[str], workers: int, kill_one: bool) -> Census:
    """The census with workers, and perhaps with one of them killed halfway.

    Whoever kills a worker cannot know what it was doing: waiting for a file, counting one, or delivering the result. It
    need not be known. A file is in a queue, or in the hands of a worker, or counted. So when a worker has died and both
    queues have run empty, what is not yet counted is handed out once more; `Census` ignores what then comes in twice.
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
    owed = False  # a worker has died, and what it had in hand has not been handed out again
    while len(census.seen) < len(files):
        try:
            census.add(*log.get(timeout=0.1))
            heard = time.perf_counter()
            progress.show(len(census.seen))
        except queue.Empty:
            if time.perf_counter() - heard > STALLED:
                lost = len(census.missing())
                raise SystemExit(f"{method}: no news for {STALLED:.0f} s; {lost} files never came back") from None
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
            print(f"{method}: handed out again what it may have had in hand, {len(again)} of the files")
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
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
        return int(text)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start-method", choices=(*METHODS, "all"), help="default: the package's own default")
    parser.add_argument("--workers", type=positive, metavar="N", help="default: one per CPU that this process may use")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N files, spread over all sizes")
    parser.add_argument("--kill-one", action="store_true", help="SIGKILL one worker when half of the files are counted")
    parser.add_argument("--package", default="procession", metavar="NAME", help="or multiprocessing, to compare")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    try:
        mp = importlib.import_module(options.package)  # in your program: import procession as mp
    except ImportError as error:
        raise SystemExit(f"{options.package} cannot be imported: {error}") from None
    methods = METHODS if options.start_method == "all" else (options.start_method or mp.get_start_method(),)
    workers = options.workers or len(os.sched_getaffinity(0))

    files = library(options.limit)
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
        verdict = "the same counts" if equal else "OTHER COUNTS THAN ONE PROCESS"
        print(f"{f'{method}, {workers} workers':24}{census.speed()}   {verdict}")
    print("most frequent:", ", ".join(f"{name} {count}" for name, count in reference.names.most_common(10)))
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
