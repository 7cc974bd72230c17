"""Warns if forked workers have used the same random numbers.

A forked worker inherits the state of numpy's global generator, and so do all others: each draws the same numbers.
(Python reseeds `random` after a fork.) A worker compares the state at its end with the inherited one. If it has drawn
from it, and not seeded it anew, it notes the inherited state in a queue. When the pool has ended, the parent warns if
two workers have noted the same state. So there is a warning only where numbers were used twice, and tasks cost no more.
"""

from __future__ import annotations

import sys

from . import worker_setup  # noqa: F401 (here, so that forked workers need not import it)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import BaseContext

__all__ = ["InheritedRandom", "InheritedSource"]

_WORDS = 624  # of the state of a Mersenne Twister; it changes all of them after so many numbers
_MOST_STATES = 1000  # how many states are tried; a worker that has drawn more is not noticed


class InheritedRandom:
    """The side of the parent."""

    def __init__(self, context: BaseContext) -> None:
        self._queue = context.SimpleQueue()
        self.source = InheritedSource(self._queue)

    def finish(self) -> None:
        """Warns if two workers have used the same numbers. All workers have ended."""
        seen = set()
        while not self._queue.empty():
            state = self._queue.get()
            if state in seen:
                _warn()
                return
            seen.add(state)


def _warn() -> None:
    import warnings

    text = (
        "workers of a pool have drawn the same random numbers: forked processes inherit the state of numpy.random's"
        " global generator. Give the pool a seed (Pool(seed=...)), or make a numpy.random.default_rng() in each worker"
    )
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    except RuntimeWarning as error:  # the program wants an exception, and this is no thread of its own
        print(f"RuntimeWarning: {error}", file=sys.stderr)


class InheritedSource:
    """What a worker gets."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._before: dict[str, Any] | None = None

    def begin(self) -> None:
        """Keeps the state that the next worker inherits. The parent does so: in a new process it takes longer."""
        self._before = _state()

    def end(self) -> None:
        """Notes the inherited state if this worker has drawn numbers from it."""
        after = _state()
        if self._before is not None and after is not None and _is_continued(self._before, after):
            state = self._before["state"]
            self._queue.put((state["key"].tobytes(), state["pos"]))


def _state() -> dict[str, Any] | None:
    """Returns the state of numpy's global generator; None: a program has replaced it by one of another kind."""
    from numpy import random

    state: Any = random.get_state(legacy=False)
    return state if state["bit_generator"] == "MT19937" else None


def _is_continued(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Returns whether numbers were drawn between these states, without a new seed."""
    from numpy import array_equal, random

    start, end = before["state"], after["state"]
    if array_equal(start["key"], end["key"]):
        return bool(start["pos"] != end["pos"])
    generator = random.MT19937()
    generator.state = {"bit_generator": "MT19937", "state": start}
    draws = _WORDS - start["pos"] + 1
    for _ in range(_MOST_STATES):
        generator.random_raw(draws, output=False)
        if array_equal(generator.state["state"]["key"], end["key"]):  # type: ignore[arg-type, call-overload, index, unused-ignore]
            return True
        draws = _WORDS
    return False
