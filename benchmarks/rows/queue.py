"""Queues: how fast messages flow, and how fast they go to and fro."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from benchmarks import peers
from benchmarks.measure import Rows, main, pin_child

rows = Rows(peers.QUEUES)


@dataclasses.dataclass
class Task:
    number: int
    name: str
    weight: float


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


@rows.row("queue: small tuples, 1 producer, 1 consumer", target=12.0, first=5000)
def small_tuples(mp: Any, count: int) -> float:
    return flow(mp, (12345, "task", 0.5), count)


# not multiprocess, whose dill sends classes of a main module, as this is, by value
@rows.row(
    "queue: objects that need pickle, 1 producer, 1 consumer",
    target=4.0,
    first=5000,
    peers=("billiard", "faster-fifo"),
)
def dataclasses_one_to_one(mp: Any, count: int) -> float:
    return flow(mp, Task(12345, "task", 0.5), count)


def consume(q: Any, done: Any, count: int) -> None:
    for _ in range(count):
        q.get()
    done.put(None)


def crowd(mp: Any, sides: int, count: int) -> float:
    """As many producers as consumers, each with its share of the messages. Seconds until all have been taken."""
    context = mp.get_context("fork")
    q, ready, start, done = (context.Queue() for _ in range(4))
    message, share = (12345, "task", 0.5), max(count // sides, 1)
    producers = [context.Process(target=produce, args=(q, ready, start, message, share)) for _ in range(sides)]
    consumers = [context.Process(target=consume, args=(q, done, share)) for _ in range(sides)]
    for child in (*producers, *consumers):
        child.start()
    for _ in producers:
        ready.get()
    began = time.perf_counter()
    for _ in producers:
        start.put(None)
    for _ in consumers:
        done.get()
    seconds = time.perf_counter() - began
    for child in (*producers, *consumers):
        child.join()
    return seconds * count / (share * sides)


@rows.row("queue: small tuples, 2 producers, 2 consumers", target=10.0, first=10_000)
def small_tuples_2_2(mp: Any, count: int) -> float:
    return crowd(mp, 2, count)


@rows.row("queue: small tuples, 16 producers, 16 consumers", first=16_000)
def small_tuples_16_16(mp: Any, count: int) -> float:
    return crowd(mp, 16, count)


@rows.row("queue: 4,000 locks put and taken at once, over and over", first=4000, peers=())
def locks_at_once(mp: Any, count: int) -> float:
    """multiprocessing cannot send a lock: what it sends and takes one by one are numbers."""
    context = mp.get_context("fork")
    q = context.Queue()
    many = hasattr(q, "get_many")
    messages = [context.Lock() if many else 1 for _ in range(4000)]
    began = time.perf_counter()
    for _ in range(max(count // 4000, 1)):
        left = len(messages)
        if many:
            q.put_many(messages)
        while left:
            if many:
                left -= len(q.get_many(left))
            else:
                q.put(1)
                q.get()
                left -= 1
    return time.perf_counter() - began


def produce_many(q: Any, ready: Any, start: Any, messages: list[Any], count: int) -> None:
    ready.put(None)
    start.get()
    if hasattr(q, "put_many"):
        for _ in range(count):
            q.put_many(messages)
    else:
        for _ in range(count):
            for message in messages:
                q.put(message)


@rows.row("queue: small tuples, a hundred at a time, 1 producer, 1 consumer", target=20.0, first=100)
def hundreds(mp: Any, count: int) -> float:
    """put_many and get_many against what one does without them."""
    context = mp.get_context("fork")
    q, ready, start = context.Queue(), context.Queue(), context.Queue()
    messages = [(number, "task", 0.5) for number in range(100)]
    child = context.Process(target=produce_many, args=(q, ready, start, messages, count))
    child.start()
    ready.get()
    began = time.perf_counter()
    start.put(None)
    left = 100 * count
    if hasattr(q, "get_many"):
        while left:
            left -= len(q.get_many(100))
    else:
        for _ in range(left):
            q.get()
    seconds = time.perf_counter() - began
    child.join()
    return seconds


def produce_simply(q: Any, ready: Any, message: Any, count: int) -> None:
    ready.release()
    for _ in range(count):
        q.put(message)


@rows.row("SimpleQueue: small tuples, 1 producer, 1 consumer", target=10.0, first=5000, peers=peers.WHOLE)
def simple_queue(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    q, ready = context.SimpleQueue(), context.Semaphore(0)
    child = context.Process(target=produce_simply, args=(q, ready, (12345, "task", 0.5), count))
    child.start()
    ready.acquire()
    began = time.perf_counter()
    for _ in range(count):
        q.get()
    seconds = time.perf_counter() - began
    child.join()
    return seconds


@rows.row("queue: round trip, a CPU for each side", target=10.0, first=1000, pin="two")
def round_trip_on_two(mp: Any, count: int) -> float:
    return round_trip(mp, count)


@rows.row("queue: round trip, one CPU for both", target=4.0, first=1000, pin="one")
def round_trip_on_one(mp: Any, count: int) -> float:
    return round_trip(mp, count)


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


@rows.row("queue: 64 KiB of bytes, 1 producer, 1 consumer", target=6.0, first=200)
def bytes_64k(mp: Any, count: int) -> float:
    return flow(mp, b"x" * 65536, count)


@rows.row("queue: 1 MiB of bytes, 1 producer, 1 consumer", target=6.0, first=20)
def bytes_1m(mp: Any, count: int) -> float:
    return flow(mp, b"x" * 1048576, count)


def answer_with_sum(there: Any, back: Any) -> None:
    while (message := there.get()) is not None:
        back.put(float(message[0] + message[-1]))


@rows.row("queue: a float64 array of 100 MB, there and an answer back", first=2, peers=())
def array_100m(mp: Any, count: int) -> float:
    import numpy as np

    context = mp.get_context("fork")
    there, back = context.Queue(), context.Queue()
    child = context.Process(target=answer_with_sum, args=(there, back))
    child.start()
    array = np.arange(12_500_000, dtype=float)
    for _ in range(2):
        there.put(array)
        back.get()
    began = time.perf_counter()
    for _ in range(count):
        there.put(array)
        back.get()
    seconds = time.perf_counter() - began
    there.put(None)
    child.join()
    return seconds


def copies(count: int) -> float:
    """Seconds of as many copies of 100 MB into memory that was written before."""
    import numpy as np

    array = np.arange(12_500_000, dtype=float)
    into = np.zeros_like(array)
    began = time.perf_counter()
    for _ in range(count):
        np.copyto(into, array)
    return time.perf_counter() - began


@rows.row("queue: that array's hop, and beside it one memcpy of 100 MB", target=1 / 1.5, first=2, peers=())
def array_100m_beside_memcpy(mp: Any, count: int) -> float:
    return copies(count) if mp.__name__ == "multiprocessing" else array_100m(mp, count)


if __name__ == "__main__":
    main(rows)
