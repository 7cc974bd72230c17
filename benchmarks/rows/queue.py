"""Queues: how fast messages flow, and how fast they go to and fro."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import Rows, main, pin_child

rows = Rows()


def produce(q: Any, ready: Any, start: Any, message: Any, count: int) -> None:
    pin_child()
    ready.put(None)
    start.get()
    for _ in range(count):
        q.put(message)


def answer(there: Any, back: Any) -> None:
    pin_child()
    while (message := there.get()) is not None:
        back.put(message)


def flow(mp: Any, message: Any, count: int) -> float:
    """Seconds from the child's first put to the parent's last get."""
    context = mp.get_context("fork")
    q, ready, start = context.Queue(), context.Queue(), context.Queue()
    child = context.Process(target=produce, args=(q, ready, start, message, count))
    child.start()
    ready.get()
    began = time.perf_counter()
    start.put(None)
    for _ in range(count):
        q.get()
    seconds = time.perf_counter() - began
    child.join()
    return seconds


@rows.row("queue: small tuples, 1 producer, 1 consumer", target=6.0, first=5000)
def small_tuples(mp: Any, count: int) -> float:
    return flow(mp, (12345, "task", 0.5), count)


@rows.row("queue: round trip between two processes", target=2.5, first=1000)
def round_trip(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    there, back = context.Queue(), context.Queue()
    child = context.Process(target=answer, args=(there, back))
    child.start()
    there.put(0)
    back.get()
    began = time.perf_counter()
    for number in range(count):
        there.put(number)
        back.get()
    seconds = time.perf_counter() - began
    there.put(None)
    child.join()
    return seconds


@rows.row("queue: 64 KiB of bytes, 1 producer, 1 consumer", first=200)
def bytes_64k(mp: Any, count: int) -> float:
    return flow(mp, b"x" * 65536, count)


@rows.row("queue: 1 MiB of bytes, 1 producer, 1 consumer", first=20)
def bytes_1m(mp: Any, count: int) -> float:
    return flow(mp, b"x" * 1048576, count)


if __name__ == "__main__":
    main(rows)
