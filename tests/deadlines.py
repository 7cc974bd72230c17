"""Waiting in tests: on a condition and with a deadline, never for a while."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 20.0  # seconds that a correct program never needs, even on a busy machine


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Waits until condition() is true and returns its value; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not true within {seconds} s: {getattr(condition, '__name__', condition)}"
        time.sleep(0.005)
    return value


def state(pid: int, thread: int | None = None) -> str:
    """A thread's state as the kernel tells it: R runs, S sleeps, Z has ended; X if there is no such thread."""
    try:
        with open(f"/proc/{pid}/task/{thread or pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def asleep(pid: int, thread: int | None = None) -> None:
    """Waits until a process (or one thread of it) has come to rest: asleep at ten looks in succession."""
    looks = 0

    def at_rest() -> bool:
        nonlocal looks
        looks = looks + 1 if state(pid, thread) == "S" else 0
        return looks >= 10

    until(at_rest)


def ended(*processes: Any, seconds: float = PATIENCE) -> list[int]:
    """Joins processes within a common deadline; returns their exit codes."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        assert process.exitcode is not None, f"{process.name} still runs after {seconds} s"
    return [process.exitcode for process in processes]


@contextlib.contextmanager
def running(context: Any, *calls: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Processes that run (function, argument, ...), started on entry; what still runs on exit is killed."""
    processes = [context.Process(target=target, args=args) for target, *args in calls]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            if process.exitcode is None:
                process.kill()
            process.join(PATIENCE)


def open_descriptors(pid: int | str = "self") -> int:
    """How many descriptors a process has open; in this one, those of forgotten objects are not counted."""
    if pid == "self":
        gc.collect()
    return len(os.listdir(f"/proc/{pid}/fd"))
