"""Calls of a cluster's objects while a signal handler raises again and again, at any instruction."""

from __future__ import annotations

import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from queue import Empty
from typing import Any

from deadlines import until


class Stop(Exception):
    """What the handler raises in turn with KeyboardInterrupt and an error of the operating system."""


class Storm:
    """Signals in the main thread. Use it in `with`; `call` runs with a handler that raises."""

    def __init__(self, longest: float = 0.004) -> None:
        """longest: seconds between two signals; the others come sooner."""
        self._longest = longest
        self.armed = False
        self.raised = 0
        self.function = ""  # in which the last exception was raised

    def __enter__(self) -> Storm:
        # An exception in `__del__` goes to the hook, in which the handler would raise again.
        self._hook, sys.unraisablehook = sys.unraisablehook, id
        self._before = signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self._longest)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        sys.unraisablehook = self._hook

    def _raise(self, *_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, self._longest))
        if self.armed:
            raise (Stop, KeyboardInterrupt, TimeoutError)[self.raised % 3]("of the handler")

    def call(self, function: Callable[[], object]) -> bool:
        """Calls a function once. Returns whether it came to its end; it also ends if a queue is empty."""
        try:
            self.armed = True
            function()
            self.armed = False
        except Empty:
            self.armed = False
        except (Stop, KeyboardInterrupt, TimeoutError) as error:
            self.armed = False
            self.raised += 1
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            self.function = next(name for name in reversed(frames) if name != "_raise")
            return False
        return True


def use_queue(queue: Any, method: str, first: int, size: int, seconds: float, report: Callable[[Any], object]) -> None:
    """Puts and gets items for some time, numbers from `first` on with `size` bytes each. Reports which numbers it has
    tried to put, which `put` calls have returned, which items it has got, and the number of exceptions."""
    tried: list[int] = []
    put: list[int] = []
    got: list[Any] = []
    get, append, extend = getattr(queue, method), got.append, got.extend
    end = time.monotonic() + seconds
    with Storm(0.03 if size else 0.004) as storm:
        while time.monotonic() < end:
            for number in range(first, first + 5):
                item = number, b"x" * size
                tried.append(number)
                if storm.call(lambda item=item: queue.put(item)):  # type: ignore[misc]
                    put.append(number)
            first += 5
            for _ in range(7):
                if method == "get_many":
                    storm.call(lambda: extend(get(4, timeout=0.005)))
                else:
                    storm.call(lambda: append(get(timeout=0.005)))
        raised = storm.raised
    report((tried, put, [number for number, _ in got], raised))


def use_lock(lock: Any, seconds: float, report: Callable[[Any], object]) -> None:
    """Acquires and releases a lock for some time, in `with`. Reports how often it had the lock, whether it was alone,
    how often it kept the lock after an exception in `with`, and the number of exceptions.

    The one place at which that may happen is the very begin of `__exit__`.
    """
    inside = kept = 0
    alone = True
    mine = getattr(lock, "_lock", lock)
    end = time.monotonic() + seconds
    with Storm() as storm:

        def body() -> None:
            nonlocal inside, alone
            with lock:
                storm.armed = False
                inside += 1
                alone = alone and mine._count() == 1
                storm.armed = True
                if lock is not mine:
                    lock.notify()
                    lock.wait(0.002)

        while time.monotonic() < end:
            if not storm.call(body) and mine._is_mine():
                if storm.function in ("__exit__", "_surely"):
                    kept += 1
                    lock.release()
                else:  # a thread is about to release it
                    until(lambda: not mine._is_mine())
        raised = storm.raised
    report((inside, alone, kept, raised))


def use_semaphore(semaphore: Any, seconds: float, report: Callable[[Any], object]) -> None:
    """Acquires and releases a semaphore for some time. Reports how often it has kept it (see `use_lock`), and the
    number of exceptions."""
    kept = 0
    end = time.monotonic() + seconds

    def body() -> None:
        with semaphore:
            pass

    with Storm() as storm:
        while time.monotonic() < end:
            if not storm.call(body) and storm.function in ("__exit__", "_surely"):
                kept += 1
        raised = storm.raised
    report((kept, raised))


def meet(barrier: Any, seconds: float, report: Callable[[Any], object]) -> None:
    """Comes to a barrier again and again. Reports how often it has met the others, and the number of exceptions."""
    import threading

    met = 0

    def body() -> None:
        nonlocal met
        try:
            barrier.wait()
            met += 1
        except threading.BrokenBarrierError:
            pass

    end = time.monotonic() + seconds
    with Storm(0.02) as storm:
        while time.monotonic() < end:
            storm.call(body)
            if barrier.broken:
                barrier.reset()
        raised = storm.raised
    barrier.abort()  # the others wait for no one
    report((met, raised))
