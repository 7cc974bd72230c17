"""Random numbers that depend on the seed of the pool, the call and the item, and not on which worker runs it when.

Each item has a stream of its own: that of `numpy.random.SeedSequence(seed, spawn_key=(call, item))`, which is also
what spawning from `SeedSequence(seed)` twice gives. `call` counts the calls of the pool from 0, `item` the items of the
call. Python's `random`, numpy's global generator and torch's are seeded before the function is called. So neither the
number of workers, nor the chunks, nor a second run of an item changes its numbers.
"""

from __future__ import annotations

import itertools
import os
import sys
from _thread import get_ident

from .errors import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from numpy.random import Generator

    from .engine import Engine, Group

__all__ = ["Seeds", "restart", "task_rng"]


class Seeds:
    """The seed of a pool. It numbers the calls."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = itertools.count()

    def of_call(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Returns what a worker calls for one call of `func`."""
        return _Call(func, self._seed, next(self._calls))

    def grouped(self, engine: Engine) -> Callable[..., Any]:
        """Returns a function that makes a group of tasks, as `engine.group` does."""

        def group(func: Callable[..., Any], starred: bool, *how: Any) -> _SeededGroup:
            return _SeededGroup(engine.group(_Items(func, self._seed, next(self._calls), starred), False, *how))

        return group


class _SeededGroup:
    """A group whose items are numbered when they are submitted."""

    SLICES = False

    def __init__(self, group: Group) -> None:
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def feed(self, iterator: Iterator[Any], items: int, chunk: int = 1, first: int = 0, listed: bool = False) -> Any:
        """As `Group.feed`. It reads no item that it does not submit."""
        return self._group.feed(map(_Numbered, itertools.count(first), iterator), items, chunk, first, listed)


class _Numbered:
    """An item with its index."""

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.item = item

    def __repr__(self) -> str:  # in errors
        return shortened(self.item)


class _Call:
    """What a worker calls for one call."""

    def __init__(self, func: Callable[..., Any], seed: int, call: int) -> None:
        self.func = func  # `errors.name_of` finds the name of the function by this attribute
        self._place = seed, call

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        _begin(*self._place, 0)
        try:
            return self.func(*args, **keywords)
        finally:
            _end()


class _Items:
    """What a worker calls for each item of a call."""

    def __init__(self, func: Callable[..., Any], seed: int, call: int, starred: bool) -> None:
        self.func = func
        self._place = seed, call
        self._starred = starred

    def __call__(self, numbered: _Numbered) -> Any:
        _begin(*self._place, numbered.index)
        try:
            return self.func(*numbered.item) if self._starred else self.func(numbered.item)
        finally:
            _end()


# --- in the worker ---

_now: tuple[int, int, int] | None = None  # seed, call and item of the task that is running
_rng: Generator | None = None  # what `task_rng` has returned in it
_where: tuple[int, int] | None = None  # the process and the thread that run it: neither its children nor other threads


def _begin(seed: int, call: int, item: int) -> None:
    """Starts the stream of an item."""
    global _now, _rng, _where
    import random

    _now, _rng, _where = (seed, call, item), None, (os.getpid(), get_ident())
    random.seed(f"procession {seed} {call} {item}")
    if "numpy" in sys.modules:
        import numpy.random

        numpy.random.seed(numpy.random.SeedSequence(seed, spawn_key=(call, item)).generate_state(4))
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(random.Random(f"procession torch {seed} {call} {item}").getrandbits(63))


def _end() -> None:
    """Ends the stream: what runs later has no item."""
    global _now, _rng  # noqa: PLW0603 (of this process)
    _now = _rng = None


def _is_here() -> bool:
    """Returns whether this thread of this process runs an item with a stream."""
    return _now is not None and _where == (os.getpid(), get_ident())


def restart() -> None:
    """Starts the stream of the current item again, because its function is called again."""
    if _now is not None and _is_here():
        _begin(*_now)


def task_rng() -> Generator:
    """Returns a numpy Generator with the stream of the current item, if the pool has a `seed`.

    Calls of one task return the same Generator. It gives the same numbers for any number of workers, any chunks and any
    retries. Without a `seed`, outside of a task, and in a thread or process that a task has started, it is a new
    Generator with a seed of the system.

    Raises:
        ModuleNotFoundError: numpy is not installed.

    Example:
        ```py
        def estimate(n):
            return mp.task_rng().random(n).mean()

        with mp.Pool(seed=7) as pool:
            print(pool.map(estimate, [1000] * 4))
        ```
    """
    global _rng  # noqa: PLW0603 (of this process)
    from numpy.random import SeedSequence, default_rng

    if _now is None or not _is_here():
        return default_rng()
    if _rng is None:
        seed, call, item = _now
        _rng = default_rng(SeedSequence(seed, spawn_key=(call, item)))
    return _rng
