"""Processes in numbers: hundreds at once, and thousands one after the other with constant memory and descriptors.

    python tests/soak/soak_processes.py --count 10000 --at-once 300

Every third process fails and every third is killed, and all of them tell how they ended. Afterwards this process and
the fork server have the size that they had after the first few hundred, as many open descriptors, and the family memory
has as many blocks in use.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from typing import Any

import procession as mp
from procession import _core, forkserver

GROWTH = 2 << 20  # bytes that a process may differ by: the allocator's own coming and going
SLOWER = 10  # how many times fewer processes under "spawn"


def nothing() -> None:
    pass


def fail() -> None:
    sys.exit(7)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_at(gate: Any, log: Any, number: int) -> None:
    gate.wait()
    log.put(number)


def size_of(pid: int) -> tuple[int, int]:
    """Bytes in memory that are this process's own, and open descriptors."""
    with open(f"/proc/{pid}/statm") as file:
        words = file.read().split()
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGESIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def measure(method: str) -> dict[str, tuple[int, int]]:
    gc.collect()
    _core.sweep()
    found = {"this process": size_of(os.getpid()), "family memory": (0, _core._blocks())}
    if method == "forkserver":
        found["fork server"] = size_of(forkserver._forkserver._forkserver_pid or 0)
    return found


def one_after_the_other(method: str, count: int) -> str:
    """Starts and joins so many; what it took. AssertionError: something grew, or an exit code was wrong."""
    context: Any = mp.get_context(method)

    def some(number: int) -> None:
        for n in range(number):
            target, code = ((nothing, 0), (fail, 7), (die, -9))[n % 3]
            process = context.Process(target=target)
            process.start()
            process.join()
            assert process.exitcode == code, (process.exitcode, code)
            assert (process.exception is None) == (code == 0)

    some(max(60, count // 20))
    before, began = measure(method), time.monotonic()
    some(count)
    after, took = measure(method), time.monotonic() - began
    for what, (size, number) in after.items():
        size_before, number_before = before[what]
        assert size - size_before < GROWTH, f"{method}: {what} grew by {(size - size_before) >> 10} KiB"
        assert number <= number_before, f"{method}: {what}: {number_before} before, {number} now"
    grown = (after["this process"][0] - before["this process"][0]) >> 10
    return f"{count} in {took:.1f} s, {1000 * took / count:.2f} ms each; this process grew by {grown} KiB"


def at_once(method: str, count: int) -> str:
    """Starts so many, which all live at the same time."""
    context: Any = mp.get_context(method)
    gate, log = context.Event(), context.SimpleQueue()
    processes = [context.Process(target=wait_at, args=(gate, log, number)) for number in range(count)]
    began = time.monotonic()
    for process in processes:
        process.start()
    assert len(mp.active_children()) == count
    gate.set()
    assert sorted(log.get() for _ in processes) == list(range(count))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    return f"{count} at once in {time.monotonic() - began:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help=f"of each method; spawn: one {SLOWER}th of it")
    parser.add_argument("--at-once", type=int, default=300)
    parser.add_argument("--methods", nargs="+", default=["fork", "forkserver", "spawn"])
    options = parser.parse_args()
    for method in options.methods:
        print(f"{method}: {at_once(method, options.at_once)}", flush=True)
        count = options.count // SLOWER if method == "spawn" else options.count
        print(f"{method}: {one_after_the_other(method, count)}", flush=True)


if __name__ == "__main__":
    main()
