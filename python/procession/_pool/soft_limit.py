"""What a worker calls instead of a function with a soft time limit (`soft_timeout`).

The limit is a timer of the worker (setitimer(2), ITIMER_REAL), whose signal raises `SoftTimeoutError` in the main
thread, where tasks run. The timer is set before the call and stopped after it, so it hits no other call. A handler of
SIGALRM and a timer that the program has of its own are back after the call.
"""

from __future__ import annotations

import signal
import time

from .._arguments import seconds
from .errors import SoftTimeoutError, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["SoftLimited", "checked", "limited"]

_LONGEST = 1e8  # seconds, three years: a longer limit is none, and setitimer(2) takes no more than a few of these


def checked(soft: Any, timeout: float | None) -> float | None:
    """Returns a soft limit; None: there is none. ValueError: it is 0 or not less than `timeout`."""
    limit = seconds("soft_timeout", soft)
    if limit is None or limit > _LONGEST:
        return None
    if not limit:
        raise ValueError("soft_timeout must be more than 0 seconds")
    if timeout is not None and limit >= timeout:
        raise ValueError(f"soft_timeout must be less than timeout: {limit:g} is not less than {timeout:g} seconds")
    return limit


def limited(engine: Any, func: Callable[..., Any], limit: float | None) -> Callable[..., Any]:
    """Returns what workers call instead of `func`. ValueError: the workers are threads."""
    if limit is None:
        return func
    if not getattr(engine, "has_signals", True):
        raise ValueError(f"{engine.kind} has no soft_timeout here: it needs a signal, in the main thread of a worker")
    return SoftLimited(func, limit)


class SoftLimited:
    """Calls a function, and raises SoftTimeoutError in it if that takes too long."""

    def __init__(self, func: Callable[..., Any], limit: float) -> None:
        """limit: seconds."""
        self.func = func  # `errors.name_of` finds the name of the function by this attribute
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return SoftLimited, (self.func, self.limit)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        runs = True

        def expired(number: int, frame: object) -> None:
            nonlocal runs
            if runs:
                runs = False
                name = name_of(self.func)
                text = f"{name}() took longer than its soft limit of {self.limit:g} seconds"
                raise SoftTimeoutError(text, name, None, self.limit)

        previous = signal.getsignal(signal.SIGALRM)
        if previous is None:
            raise RuntimeError("soft_timeout needs SIGALRM, which has a handler that is not one of Python")
        began = time.monotonic()
        left = interval = 0.0
        try:
            signal.signal(signal.SIGALRM, expired)
            left, interval = signal.setitimer(signal.ITIMER_REAL, self.limit)
            try:
                return self.func(*args, **keywords)
            finally:
                runs = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            if left:  # of the program's own timer
                signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-6), interval)
