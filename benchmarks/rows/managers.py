"""Calls through a manager's proxies: the server is a child process. The targets are those of `--pin one`; with a CPU
for
each, getting and setting has to be 6 times as fast.
"""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Rows, main, pin_child

if TYPE_CHECKING:
    from collections.abc import Iterator

rows = Rows()


@contextmanager
def managed(mp: Any, **options: Any) -> Iterator[Any]:
    manager = import_module(f"{mp.__name__}.managers").SyncManager(**options)
    manager.start(pin_child)
    try:
        yield manager
    finally:
        manager.shutdown()


@rows.row("manager: dictionary get", target=3, first=500)
def dict_get(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        shared = manager.dict(key="value")
        began = time.perf_counter()
        for _ in itertools.repeat(None, count):
            shared["key"]
        return time.perf_counter() - began


@rows.row("manager: dictionary set", target=3, first=500)
def dict_set(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        shared = manager.dict()
        began = time.perf_counter()
        for i in range(count):
            shared["key"] = i
        return time.perf_counter() - began


@rows.row("manager: lock acquire and release", first=300)
def lock(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        shared = manager.Lock()
        began = time.perf_counter()
        for _ in itertools.repeat(None, count):
            with shared:
                pass
        return time.perf_counter() - began


@rows.row("manager: 100 kB bytes from a list", first=300)
def big(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        shared = manager.list([b"x" * 100_000])
        began = time.perf_counter()
        for _ in itertools.repeat(None, count):
            shared[0]
        return time.perf_counter() - began


@rows.row("manager: make a list and drop it", first=100)
def create(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        began = time.perf_counter()
        for _ in itertools.repeat(None, count):
            manager.list()
        return time.perf_counter() - began


@rows.row("manager: a proxy out of another, and drop it", first=100)
def nested(mp: Any, count: int) -> float:
    with managed(mp) as manager:
        outer = manager.list([manager.list()])
        began = time.perf_counter()
        for _ in itertools.repeat(None, count):
            outer[0]
        return time.perf_counter() - began


if __name__ == "__main__":
    main(rows)
