"""Locks, semaphores, conditions, events and barriers: wanted by nobody else, and handed to and fro.

Where nobody else is about, the loop around the operations is part of the time, for both packages alike.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from benchmarks.measure import Rows, main, pin_child

rows = Rows()


# --- uncontended ------------------------------------------------------------------------------------------------------


def acquire_and_release(lock: Any, count: int) -> float:
    acquire, release = lock.acquire, lock.release
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        acquire()
        release()
    return time.perf_counter() - began


def enter_and_leave(lock: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        with lock:
            pass
    return time.perf_counter() - began


@rows.row("lock: acquire and release, uncontended", target=1.3, first=100_000)
def acquire_release(mp: Any, count: int) -> float:
    return acquire_and_release(mp.Lock(), count)


@rows.row("lock: with lock, uncontended", target=1.8, first=100_000)
def with_lock(mp: Any, count: int) -> float:
    return enter_and_leave(mp.Lock(), count)


@rows.row("rlock: acquire and release, uncontended", target=1.3, first=100_000)
def rlock(mp: Any, count: int) -> float:
    return acquire_and_release(mp.RLock(), count)


@rows.row("rlock: with lock, uncontended", first=100_000)
def with_rlock(mp: Any, count: int) -> float:
    return enter_and_leave(mp.RLock(), count)


@rows.row("semaphore: acquire and release, uncontended", target=1.3, first=100_000)
def semaphore(mp: Any, count: int) -> float:
    return acquire_and_release(mp.Semaphore(1), count)


@rows.row("event: set and clear, nobody waits", first=50_000)
def set_clear(mp: Any, count: int) -> float:
    event = mp.Event()
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        event.set()
        event.clear()
    return time.perf_counter() - began


# --- between processes ------------------------------------------------------------------------------------------------


def take_turns(lock: Any, ready: Any, start: Any, count: int) -> None:
    pin_child()
    ready.release()
    start.acquire()
    enter_and_leave(lock, count)


@rows.row("lock: with lock, two processes contend", target=2.0, first=5000)
def contended_lock(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    lock, ready, start = context.Lock(), context.Semaphore(0), context.Semaphore(0)
    child = context.Process(target=take_turns, args=(lock, ready, start, count))
    child.start()
    ready.acquire()
    began = time.perf_counter()
    start.release()
    enter_and_leave(lock, count)
    child.join()
    return time.perf_counter() - began


def answer_events(there: Any, back: Any, count: int) -> None:
    pin_child()
    for _ in range(count):
        there.wait()
        there.clear()
        back.set()


def event_round_trips(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    there, back = context.Event(), context.Event()
    child = context.Process(target=answer_events, args=(there, back, count + 1))
    child.start()
    for number in range(count + 1):
        if number == 1:  # the first one is for the start of the child
            began = time.perf_counter()
        there.set()
        back.wait()
        back.clear()
    seconds = time.perf_counter() - began
    child.join()
    return seconds


@rows.row("event: round trip between two processes, on a CPU each", target=10.0, first=500, pin="two")
def event_two_cpus(mp: Any, count: int) -> float:
    return event_round_trips(mp, count)


@rows.row("event: round trip between two processes, on one CPU", target=2.5, first=500, pin="one")
def event_one_cpu(mp: Any, count: int) -> float:
    return event_round_trips(mp, count)


def answer_calls(condition: Any, ready: Any, count: int) -> None:
    pin_child()
    with condition:
        ready.release()
        for _ in range(count):
            condition.wait()
            condition.notify()


@rows.row("condition: round trip between two processes", target=3.0, first=500)
def condition_round_trip(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    condition, ready = context.Condition(), context.Semaphore(0)
    child = context.Process(target=answer_calls, args=(condition, ready, count))
    child.start()
    ready.acquire()
    with condition:  # so the other one waits
        began = time.perf_counter()
        for _ in range(count):
            condition.notify()
            condition.wait()
        seconds = time.perf_counter() - began
    child.join()
    return seconds


def pass_barrier(barrier: Any, count: int) -> None:
    pin_child()
    for _ in range(count):
        barrier.wait()


@rows.row("barrier: a round of four processes", target=3.0, first=200)
def barrier_of_four(mp: Any, count: int) -> float:
    context = mp.get_context("fork")
    barrier = context.Barrier(4)
    children = [context.Process(target=pass_barrier, args=(barrier, count + 1)) for _ in range(3)]
    for child in children:
        child.start()
    barrier.wait()
    began = time.perf_counter()
    for _ in range(count):
        barrier.wait()
    seconds = time.perf_counter() - began
    for child in children:
        child.join()
    return seconds


if __name__ == "__main__":
    main(rows)
