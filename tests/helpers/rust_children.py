"""Functions that the Rust program of test_rust.py starts in Python processes."""

from __future__ import annotations

import dataclasses
import enum
import sys
import time
from typing import Any, NamedTuple

import procession
from deadlines import PATIENCE
from procession.queues import ShutDown
from procession.rust import to_bytes


@dataclasses.dataclass
class Point:
    x: int
    y: float


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: int
    y: float


class NamedPoint(NamedTuple):
    x: int
    y: float


class Color(enum.Enum):
    RED = "Red"
    GREEN = 1


class Level(enum.IntEnum):
    HIGH = 7


class Stack(list[int]):
    pass


def describe(results: Any, values: list[object], flag: bool) -> None:
    results.put(f"{procession.current_process().name} {values} {flag}")


def sum_frames(frames: Any, results: Any) -> None:
    while True:
        try:
            frame = frames.get(timeout=PATIENCE)
        except ShutDown:
            return
        results.put(float(sum(frame)))


def count(lock: Any, total: Any) -> None:
    for _ in range(100):
        with lock:
            total[0] += 1
            total[3] += 1


def fail() -> None:
    raise ValueError("not today")


def stop() -> None:
    sys.exit(3)


def hold(lock: Any, results: Any) -> None:
    lock.acquire()
    results.put("held")
    time.sleep(60)


def hand_back(results: Any) -> None:
    event = procession.Event()
    results.put(to_bytes(event))
    assert event.wait(PATIENCE)
