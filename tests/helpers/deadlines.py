"""Waiting in tests: on a condition and with a deadline, never for a while."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_SLOWNESS = "TESTS_SLOWNESS"  # in the environment: how slow the machine was when the tests began
_SECONDS = float(os.environ.get("TESTS_PATIENCE", "20"))
_NOMINAL = 0.03  # seconds in which an interpreter starts and ends where nothing else runs


def slowness() -> float:
    """By how much deadlines are longer here than on a machine that has nothing else to do: from 1 to 3."""
    return float(os.environ.get(_SLOWNESS, "1"))


def measure() -> None:
    """Measures how fast the machine starts programs, once for a run of the tests, and sets PATIENCE by that."""
    global PATIENCE  # noqa: PLW0603 (child programs compute it from the environment)
    if _SLOWNESS not in os.environ:
        import subprocess  # children import this module, too, and have no use for that one

        command = [sys.executable, "-I", "-S", "-c", ""]
        subprocess.run(command, check=True)  # from the disk
        began = time.monotonic()
        for _ in range(10):
            subprocess.run(command, check=True)
        os.environ[_SLOWNESS] = f"{min(max((time.monotonic() - began) / 10 / _NOMINAL, 1.0), 3.0):.2f}"
    PATIENCE = _SECONDS * slowness()


PATIENCE = _SECONDS * slowness()  # seconds that a correct program never needs, even on a busy machine


def scaled(program: str) -> str:
    """The text of a program, with the number where it says PATIENCE: it may not find this module."""
    return re.sub(r"(?<![.\w])PATIENCE\b", f"{PATIENCE:g}", program)


def until(condition: Callable[[], Any], seconds: float | None = None) -> Any:
    """Waits until condition() is true and returns its value; fails after so many seconds (PATIENCE)."""
    seconds = PATIENCE if seconds is None else seconds
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


def ended(*processes: Any, seconds: float | None = None) -> list[int]:
    """Joins processes within a common deadline (PATIENCE); returns their exit codes."""
    seconds = PATIENCE if seconds is None else seconds
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
