"""Executors that are kept for the next call of `joblib.Parallel`, because the start of workers takes long.

Each call has an executor of its own while it runs, so that calls in several threads, and generators that are not at
their end, do not disturb each other. Between calls an executor is idle. Idle executors end after a time.
"""

from __future__ import annotations

import math
import os
import threading
import time

from ..futures import ProcessPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Kept", "lend", "take_back"]

MOST_IDLE = 2  # number of idle executors that are kept: programs seldom use more sorts at a time


class Kept:
    """An executor, and what it was made with."""

    def __init__(self, made_with: dict[str, Any], patience: float) -> None:
        """made_with: the arguments of the executor. patience: seconds for which it may be idle."""
        self.executor = ProcessPoolExecutor(**made_with)
        self.made_with = made_with
        self.patience = patience
        self.until = 0.0  # the time at which it ends, while it is idle

    def is_usable(self) -> bool:
        """Returns whether it takes calls."""
        pool = self.executor._pool
        return not self.executor._shut_down and (pool is None or pool._engine.phase == "open")

    def fits(self, made_with: dict[str, Any]) -> bool:
        """Returns whether it was made with equal arguments."""
        try:
            return bool(self.made_with == made_with)
        except Exception:  # for example numpy arrays in `initargs`, which have no truth value
            return False

    def give_up_calls(self) -> None:
        """Ends the calls that run, by killing their workers, and cancels the others."""
        pool = self.executor._pool
        if pool is not None:
            pool.cancel_all()


_lock = threading.Lock()
_idle: list[Kept] = []  # the one that was used last is at the end
_timer: threading.Timer | None = None
_timer_ends = math.inf
_of_parent: list[Kept] = []  # in a forked child: its parent's, whose end is not the child's business


def lend(made_with: dict[str, Any], patience: float) -> Kept:
    """Returns an executor with these arguments that nothing else uses. `take_back` returns it."""
    with _lock:
        for kept in reversed(_idle):
            if kept.fits(made_with) and kept.is_usable():
                _idle.remove(kept)
                kept.patience = patience
                return kept
    return Kept(made_with, patience)


def take_back(kept: Kept) -> None:
    """Keeps an executor, whose calls are all done or given up, for the next call."""
    if not kept.is_usable():
        return
    kept.until = time.monotonic() + kept.patience
    with _lock:
        _idle.append(kept)
        surplus = [_idle.pop(0) for _ in range(len(_idle) - MOST_IDLE)]
        _set_timer()
    _end(surplus)


def _set_timer() -> None:
    """Starts a thread that ends the idle executor whose time is over first. The caller holds the lock."""
    global _timer, _timer_ends  # noqa: PLW0603 (of this process)
    first = min((kept.until for kept in _idle), default=math.inf)
    if _timer is not None and _timer_ends > first:
        _timer.cancel()
        _timer = None
    if _timer is None and _idle:
        _timer, _timer_ends = threading.Timer(max(0.0, first - time.monotonic()), _end_the_overdue), first
        _timer.daemon = True
        _timer.start()


def _end_the_overdue() -> None:
    global _timer  # noqa: PLW0603 (of this process)
    with _lock:
        _timer = None
        now = time.monotonic()
        overdue = [kept for kept in _idle if kept.until <= now]
        _idle[:] = [kept for kept in _idle if kept.until > now]
        _set_timer()
    _end(overdue)


def _end(executors: list[Kept]) -> None:
    for kept in executors:
        kept.executor.shutdown(wait=False)


def _forget() -> None:
    """Called in a forked child: the executors are those of its parent."""
    global _lock, _timer
    _lock, _timer = threading.Lock(), None
    _of_parent.extend(_idle)
    _idle.clear()


os.register_at_fork(after_in_child=_forget)
