"""What the machine, the kernel and a bare interpreter allow: a limit for a row of the benchmarks, measured beside it.

A limit is the cost of what cannot be left out: one fork, one memcpy, one system call, the interpreter's own start. It
does none of the rest of the row's work, so a row costs more than its limit. `most` says how near it has to be.

    python -m benchmarks.limits --row queue/bytes-64k --seconds 0.5

Limits that are native code are in `benchmarks/native`, a program that uses nothing of Procession.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(__file__).parent / "native" / "target" / "release" / "procession-limits"


class Limit:
    """about: what it is, for the table. run: a function from how often to the seconds that this took. first: how often
    in the trial run. most: how many times the limit the row may cost, and `plus` seconds. None: it is only shown.
    why: what the rest consists of, as it was measured, for a row that cannot come nearer.
    """

    def __init__(
        self,
        about: str,
        run: Callable[[int], float],
        first: int,
        most: float | None = None,
        plus: float = 0.0,
        why: str = "",
    ) -> None:
        self.about = about
        self.run = run
        self.first = first
        self.most = most
        self.plus = plus
        self.why = why

    @property
    def target(self) -> str:
        if self.most is None:
            return ""
        return f"≤ {self.most:g}×" + (f" + {self.plus * 1e3:g} ms" if self.plus else "")


def native(name: str, argument: str = "") -> Callable[[int], float]:
    def run(count: int) -> float:
        command = [str(PROGRAM), name, str(count), *([argument] if argument else [])]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    return run


def fork_and_wait(count: int) -> float:
    import os

    began = time.perf_counter()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return time.perf_counter() - began


def interpreter(count: int) -> float:
    """Starts of this interpreter that do nothing."""
    return native("spawn", sys.executable)(count)


def map_in_two(count: int) -> float:
    """One process has half of the items."""
    from benchmarks.rows.pool import square

    began = time.perf_counter()
    list(map(square, range(count)))
    return (time.perf_counter() - began) / 2


def pickle_and_back(count: int) -> float:
    import pickle

    from benchmarks.rows.queue import Task

    task = Task(12345, "task", 0.5)
    began = time.perf_counter()
    for _ in range(count):
        pickle.loads(pickle.dumps(task, 5))
    return time.perf_counter() - began


def with_threads_lock(count: int) -> float:
    import threading

    from benchmarks.rows.sync import enter_and_leave

    return enter_and_leave(threading.Lock(), count)


def plain_value(count: int) -> float:
    import ctypes
    import itertools

    value = ctypes.c_int(0)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        value.value  # noqa: B018
    return time.perf_counter() - began


def plain_value_set(count: int) -> float:
    import ctypes
    import itertools

    value = ctypes.c_int(0)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        value.value = 7
    return time.perf_counter() - began


def packed_in_two(count: int) -> float:
    """The messages of `queue/small-tuples`, packed on one CPU and unpacked on another by marshal, the fastest that the
    standard library has."""
    import marshal

    message = (12345, "task", 0.5)
    packed = marshal.dumps(message)
    began = time.perf_counter()
    for _ in range(count):
        marshal.dumps(message)
    between = time.perf_counter()
    for _ in range(count):
        marshal.loads(packed)
    return max(between - began, time.perf_counter() - between)


def answer_calls(there: Any, back: Any) -> None:
    from benchmarks.rows.pool import square

    functions = [square]
    while (call := there.get()) is not None:
        number, function, args = call
        back.put((number, True, functions[function](*args)))


def calls_through_queues(count: int) -> float:
    """Calls in another process without a pool: a queue for calls, and one for results."""
    import procession

    context = procession.get_context("fork")
    there, back = context.Queue(), context.Queue()
    child = context.Process(target=answer_calls, args=(there, back))
    child.start()
    there.put((0, 0, (1,)))
    back.get()
    began = time.perf_counter()
    for number in range(count):
        there.put((number, 0, (number,)))
        back.get()
    seconds = time.perf_counter() - began
    there.put(None)
    child.join()
    return seconds


def both(first: Callable[[int], float], second: Callable[[int], float]) -> Callable[[int], float]:
    return lambda count: first(count) + second(count)


def of_ours(row: str, times: float = 1) -> Callable[[int], float]:
    """Another row of Procession's, `times` times."""

    def run(count: int) -> float:
        from importlib import import_module

        from benchmarks import peers

        module, _, name = row.partition("/")
        rows = import_module(f"benchmarks.rows.{module}").rows
        measured: float = rows[name].run(peers.load("procession"), count)
        return measured * times

    return run


PLAIN = "a plain ctypes.c_int, and a lock acquired and released"
LIMITS = {
    "start/fork": Limit(
        "os.fork, os._exit and waitpid in Python",
        fork_and_wait,
        20,
        most=1.4,
        why="the child writes to 370 pages and not to 200, and the parent to 130 more: CPython counts references in "
        "each object that it uses, and these 300 page faults take as long as the difference",
    ),
    "start/spawn": Limit(
        "python -c pass by posix_spawn",
        interpreter,
        3,
        most=1.4,
        plus=1e-3,
        why="3.7 ms of imports: 17 small modules and the extension",
    ),
    "start/forkserver": Limit(
        "a start by fork",
        of_ours("start/fork"),
        10,
        most=1.4,
        why="two children are forked ahead, but a row of starts takes all of two CPUs: 2.1 ms of CPU time for each, "
        "and two messages. With a fork in C in place of CPython's child it would be 0.16 ms",
    ),
    "start/first-forkserver": Limit(
        "python -c pass by posix_spawn",
        interpreter,
        3,
        most=2.5,
        why="the imports of this package in the program and in the server, 4 ms each, and the first fork of a fresh "
        "process, 3 ms",
    ),
    "start/fork-big": Limit("a fork in C with as much memory", native("fork", "500"), 4),
    "pool/map-default": Limit("list(map(f, xs)) in one process, over two", map_in_two, 20_000, most=2.0),
    "pool/map-one": Limit(
        "two messages of a queue",
        of_ours("queue/small-tuples", 2),
        5000,
        most=1.8,
        why="the parent makes each task and reads its result, 640 ns of CPU time under one interpreter lock, while the "
        "workers take 300 ns for each of theirs",
    ),
    "pool/apply": Limit(
        "a call through two queues without a pool",
        calls_through_queues,
        500,
        most=2.5,
        why="a task is noted on both sides, so that it can be cancelled, timed, retried and seen from outside, and "
        "outlives its worker",
    ),
    "pool/start-fork": Limit("two starts", of_ours("start/fork", 2), 10, most=1.3),
    "pool/start-spawn": Limit("two starts", of_ours("start/spawn", 2), 2, most=1.3),
    "pool/start-forkserver": Limit("two starts", of_ours("start/forkserver", 2), 10, most=1.3),
    "queue/small-tuples": Limit(
        "24 bytes through crossbeam's ArrayQueue, and marshal on one CPU each for dumps and loads",
        both(native("ring"), packed_in_two),
        100_000,
        most=1.5,
    ),
    "queue/dataclasses-one-to-one": Limit("pickle.dumps and loads", pickle_and_back, 5000, most=1.3),
    "queue/small-tuples-16-16": Limit("2 producers, 2 consumers", of_ours("queue/small-tuples-2-2"), 5000, most=1.5),
    "queue/bytes-64k": Limit("one memcpy in, one out, on two CPUs", native("copy-two-cpus", "65536"), 1000, most=1.2),
    "queue/bytes-1m": Limit("one memcpy in, one out, on two CPUs", native("copy-two-cpus", "1048576"), 50, most=1.2),
    "queue/round-trip-on-one": Limit("two threads and a futex", native("hand-off-one-cpu"), 1000, most=2.0),
    "queue/round-trip-on-two": Limit("two threads and a futex", native("hand-off-two-cpus"), 1000, most=2.0),
    "connection/pipe-small-duplex": Limit(
        "one write and one read in Rust",
        native("stream"),
        10_000,
        most=1.4,
        why="it is at this limit: a pipe stays a socket, which any program can read",
    ),
    "connection/pipe-round-trip": Limit("two threads and a futex", native("hand-off-two-cpus"), 1000, most=2.0),
    "sync/with-lock": Limit("with threading.Lock()", with_threads_lock, 100_000, most=1.5),
    "values/value-increment": Limit("with threading.Lock()", with_threads_lock, 100_000, most=2.5),
    "values/array-item": Limit("with threading.Lock()", with_threads_lock, 100_000, most=2.5),
    "values/value-get": Limit(PLAIN, both(plain_value, of_ours("sync/acquire-release")), 100_000, most=1.2),
    "values/value-set": Limit(PLAIN, both(plain_value_set, of_ours("sync/acquire-release")), 100_000, most=1.2),
    "values/array-get": Limit(PLAIN, both(plain_value, of_ours("sync/acquire-release")), 100_000, most=1.2),
    "values/array-set": Limit(PLAIN, both(plain_value_set, of_ours("sync/acquire-release")), 100_000, most=1.2),
    "values/named-segment": Limit(
        "shm_open, ftruncate, mmap, munmap, shm_unlink",
        native("segment"),
        500,
        most=2.8,
        why="a lock on the file, CPython's mmap (two more system calls), and two messages to the tracker: without them "
        "a killed program would leave the segment behind",
    ),
    "managers/nested": Limit("two calls", of_ours("managers/dict-get", 2), 200),
}


def main() -> None:
    """options: --row MODULE/NAME [--seconds S] [--pin none|one|two]"""
    from benchmarks.measure import pin_to

    given: dict[str, Any] = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    limit = LIMITS[given["--row"]]
    pin_to(given.get("--pin", "none"), parent=True)
    trial = limit.run(limit.first)
    count = max(limit.first, int(limit.first * float(given.get("--seconds", 0.5)) / trial))
    print(f'{{"count": {count}, "seconds": {limit.run(count)!r}}}')


if __name__ == "__main__":
    main()
