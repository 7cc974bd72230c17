"""Values, arrays and dictionaries that processes share; nobody else is about."""

from __future__ import annotations

import itertools
import time
from typing import Any

from benchmarks.measure import Rows, main

rows = Rows()


@rows.row("value: += under its lock", target=1.5, first=50_000)
def value_increment(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        with value.get_lock():
            value.value += 1
    return time.perf_counter() - began


@rows.row("array: an item read and written under its lock", first=50_000)
def array_item(mp: Any, count: int) -> float:
    array = mp.Array("d", 10)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        array[3] = array[2]
    return time.perf_counter() - began


@rows.row("value: read, with its lock", first=100_000)
def value_get(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        value.value  # noqa: B018
    return time.perf_counter() - began


@rows.row("value: written, with its lock", first=100_000)
def value_set(mp: Any, count: int) -> float:
    value = mp.Value("i", 0)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        value.value = 7
    return time.perf_counter() - began


@rows.row("array: an item read, with its lock", first=100_000)
def array_get(mp: Any, count: int) -> float:
    array = mp.Array("d", 10)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        array[2]
    return time.perf_counter() - began


@rows.row("array: an item written, with its lock", first=100_000)
def array_set(mp: Any, count: int) -> float:
    array = mp.Array("d", 10)
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        array[3] = 1.0
    return time.perf_counter() - began


@rows.row("value: make one without a lock, and drop it", first=5_000)
def raw_value(mp: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        mp.RawValue("i", 1)
    return time.perf_counter() - began


@rows.row("array: make 1 MB of zeros, and drop it", first=200)
def megabyte(mp: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        mp.RawArray("b", 1_000_000)
    return time.perf_counter() - began


@rows.row("array: make 2 GiB of zeros, and drop it", target=50, first=1)
def two_gigabytes(mp: Any, count: int) -> float:
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        mp.RawArray("b", 2 << 30)
    return time.perf_counter() - began


def shared_dictionary(mp: Any) -> Any:
    """Ours takes no server; multiprocessing has a manager's."""
    return mp.SharedDict() if hasattr(mp, "SharedDict") else mp.Manager().dict()


@rows.row("dictionary: get", target=30, first=500)
def dict_get(mp: Any, count: int) -> float:
    shared = shared_dictionary(mp)
    shared["key"] = "value"
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        shared["key"]
    return time.perf_counter() - began


@rows.row("dictionary: set", target=30, first=500)
def dict_set(mp: Any, count: int) -> float:
    shared = shared_dictionary(mp)
    began = time.perf_counter()
    for i in range(count):
        shared["key"] = i
    return time.perf_counter() - began


@rows.row("segment: make one with a name, close and unlink it", first=200)
def named_segment(mp: Any, count: int) -> float:
    from importlib import import_module

    SharedMemory = import_module(f"{mp.__name__}.shared_memory").SharedMemory
    began = time.perf_counter()
    for _ in itertools.repeat(None, count):
        segment = SharedMemory(create=True, size=4096)
        segment.close()
        segment.unlink()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(rows)
