"""Starting a process that does nothing, and joining it, one after the other: in a small program, and in a big one that
has numpy imported (where that is installed) and half a gigabyte of its own.

This module is the main module of the child under "spawn", so it imports next to nothing.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BALLAST = 500 << 20
BIG = 64 << 20
LOCKS = 10_000


def nothing() -> None:
    pass


def start_and_join(mp: Any, method: str, count: int) -> float:
    context = mp.get_context(method)
    began = time.perf_counter()
    for _ in range(count):
        process = context.Process(target=nothing)
        process.start()
        process.join()
    return time.perf_counter() - began


def started_before(mp: Any, method: str, count: int) -> float:
    start_and_join(mp, method, 1)  # brings a fork server up
    return start_and_join(mp, method, count)


def bursts(mp: Any, method: str, count: int) -> float:
    """Sets of fifty processes that are started one after the other, and joined then."""
    context = mp.get_context(method)
    start_and_join(mp, method, 1)
    began = time.perf_counter()
    for _ in range(max(count // 50, 1)):
        processes = [context.Process(target=nothing) for _ in range(50)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return (time.perf_counter() - began) * count / (max(count // 50, 1) * 50)


def late_module(mp: Any, method: str, count: int) -> float:
    """The target is a function of a module that the fork server did not import when it began."""
    context = mp.get_context(method)
    start_and_join(mp, method, 1)
    from decimal import getcontext

    began = time.perf_counter()
    for _ in range(count):
        process = context.Process(target=getcontext)
        process.start()
        process.join()
    return time.perf_counter() - began


def first_starts(mp: Any, method: str, count: int) -> float:
    """Programs that start one process: the time of this start, their own start left out."""
    import subprocess
    import sys

    timed = (
        f"import time, {mp.__name__} as mp\n"
        "import os\n"
        f"context = mp.get_context({method!r})\n"
        "began = time.perf_counter()\n"
        "process = context.Process(target=os.getpid)\n"
        "process.start(); process.join()\n"
        "print(time.perf_counter() - began)\n"
    )
    command = [sys.executable, "-c", timed]
    return sum(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(count))


def big(mp: Any, method: str, count: int) -> float:
    from contextlib import suppress

    with suppress(ImportError):
        import numpy  # noqa: F401
    ballast = bytearray(BALLAST)
    ballast[::4096] = b"x" * len(range(0, BALLAST, 4096))  # touched, every page of it
    return started_before(mp, method, count)


def length(data: bytes) -> None:
    assert len(data) == BIG


def same_argument(mp: Any, method: str, count: int) -> float:
    """Sets of eight processes that run at the same time and have one big argument."""
    context = mp.get_context(method)
    data = b"x" * BIG
    start_and_join(mp, method, 1)
    began = time.perf_counter()
    for _ in range(count):
        processes = [context.Process(target=length, args=(data,)) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    return time.perf_counter() - began


def count_them(locks: list[Any]) -> None:
    assert len(locks) == LOCKS


def many_locks(mp: Any, method: str, count: int) -> float:
    context = mp.get_context(method)
    start_and_join(mp, method, 1)
    locks = [context.Lock() for _ in range(LOCKS)]
    began = time.perf_counter()
    for _ in range(count):
        process = context.Process(target=count_them, args=(locks,))
        process.start()
        process.join()
    return time.perf_counter() - began


def made_rows() -> Any:
    from benchmarks.measure import Rows

    rows = Rows()

    @rows.row("start and join: fork", target=1.2, first=10)
    def fork(mp: Any, count: int) -> float:
        return started_before(mp, "fork", count)

    @rows.row("start and join: spawn", target=1.8, first=2)
    def spawn(mp: Any, count: int) -> float:
        return started_before(mp, "spawn", count)

    @rows.row("start and join: forkserver", target=2.3, first=10)  # its limit says why not four times
    def forkserver(mp: Any, count: int) -> float:
        return started_before(mp, "forkserver", count)

    @rows.row("start and join: forkserver, fifty at once", first=50)
    def forkserver_burst(mp: Any, count: int) -> float:
        return bursts(mp, "forkserver", count)

    @rows.row("start and join: forkserver, a target whose module the program imported late", first=10)
    def forkserver_late(mp: Any, count: int) -> float:
        return late_module(mp, "forkserver", count)

    @rows.row("the first start under forkserver in a program", first=2)
    def first_forkserver(mp: Any, count: int) -> float:
        return first_starts(mp, "forkserver", count)

    @rows.row("start and join: fork, big parent", first=4)
    def fork_big(mp: Any, count: int) -> float:
        return big(mp, "fork", count)

    @rows.row("start and join: spawn, big parent", target=1.8, first=2)
    def spawn_big(mp: Any, count: int) -> float:
        return big(mp, "spawn", count)

    @rows.row("start and join: forkserver, big parent", target=2.3, first=10)
    def forkserver_big(mp: Any, count: int) -> float:
        return big(mp, "forkserver", count)

    @rows.row("eight processes with the same 64 MiB bytes: spawn", target=2, first=1)
    def same_argument_spawn(mp: Any, count: int) -> float:
        return same_argument(mp, "spawn", count)

    @rows.row("eight processes with the same 64 MiB bytes: forkserver", target=2, first=1)
    def same_argument_forkserver(mp: Any, count: int) -> float:
        return same_argument(mp, "forkserver", count)

    @rows.row("start and join with 10,000 locks: fork", first=1)
    def locks_fork(mp: Any, count: int) -> float:
        return many_locks(mp, "fork", count)

    @rows.row("start and join with 10,000 locks: spawn", first=1)
    def locks_spawn(mp: Any, count: int) -> float:
        return many_locks(mp, "spawn", count)

    @rows.row("import the package", target=3, first=3)
    def import_alone(mp: Any, count: int) -> float:
        return importing([mp.__name__], count)

    @rows.row("import it and what most programs use", target=2, first=3)
    def import_most(mp: Any, count: int) -> float:
        parts = ("connection", "popen_fork", "popen_spawn_posix", "queues", "synchronize")
        return importing([mp.__name__, *(f"{mp.__name__}.{part}" for part in parts)], count)

    return rows


def importing(modules: list[str], count: int) -> float:
    """How long new interpreters take to import these, their own start left out."""
    import subprocess
    import sys

    timed = f"import time; began = time.perf_counter(); import {', '.join(modules)}; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", timed]
    return sum(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(count))


def __getattr__(name: str) -> Any:
    if name == "rows":
        return made_rows()
    raise AttributeError(name)


if __name__ == "__main__":
    from benchmarks.measure import main

    main(made_rows())
