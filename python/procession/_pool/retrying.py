"""What a worker calls instead of a function that is called again if it raises (`retry_on`).

The loop is in the worker, around one call, so it works in every kind of pool, and time limits count all attempts of a
call and the time between them.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Retrying", "longest"]

longest = 60.0  # seconds between two attempts, at most


class Retrying:
    """Calls a function, and calls it again if it raises one of some exceptions."""

    def __init__(
        self, func: Callable[..., Any], kinds: tuple[type[Exception], ...], retries: int, delay: float
    ) -> None:
        """kinds: the exceptions. retries: how often it is called again. delay: seconds before the first retry."""
        self.func = func  # `errors.name_of` finds the name of the function by this attribute
        self.kinds = kinds
        self.retries = retries
        self.delay = delay

    def __reduce__(self) -> tuple[Any, ...]:
        return Retrying, (self.func, self.kinds, self.retries, self.delay)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        retries = 0
        while True:
            try:
                return self.func(*args, **keywords)
            except self.kinds as error:
                if retries >= self.retries:
                    with suppress(Exception):  # the exception may be of a class that takes no notes
                        error.add_note(f"raised by the last of {retries + 1} attempts")
                    raise
            # each wait is twice as long as the one before; the limit keeps the power finite
            wait = min(self.delay * 2.0 ** min(retries, 64), longest)
            retries += 1
            if wait:
                time.sleep(wait)
            seeding = sys.modules.get(f"{__package__}.seeding")  # of a pool with a seed
            if seeding is not None:
                seeding.restart()
