"""Shared dictionaries and other additions, which multiprocessing has not."""

from typing import assert_type

import procession as mp
from procession import SharedDict
from procession.futures import ProcessPoolExecutor
from procession.pool import AsyncResult, Pool
from procession.queues import Queue


def count(counts: SharedDict[str, int], queue: Queue[str], fallback: bytes = b"") -> None:
    assert_type(counts["a"], int)
    assert_type(counts.get("a"), int | None)
    assert_type(counts.get("a", 0), int)
    assert_type(counts.get("a", fallback), int | bytes)
    assert_type(counts.pop("a"), int)
    assert_type(counts.pop("a", None), int | None)
    assert_type(counts.setdefault("a", 1), int)
    assert_type(counts.popitem(), tuple[str, int])
    assert_type(counts.change("a", lambda n: n + 1, 0), int)
    assert_type(counts.compare_and_set("a", 1, 2), bool)
    assert_type(counts.copy(), dict[str, int])
    assert_type(list(counts), list[str])
    assert_type(sorted(counts.items()), list[tuple[str, int]])
    assert_type(counts | {"b": 1}, dict[str, int])
    assert_type(len(counts), int)
    assert_type("a" in counts, bool)
    counts["b"] = 1
    counts.update({"c": 3}, d=4)
    counts |= [("e", 5)]
    del counts["b"]
    with counts.lock("b"):
        pass
    queue.put_many(["a", "b"])
    assert_type(queue.get_many(10), list[str])
    # wrong keys and values
    counts["b"] = "1"  # error
    counts[1] = 1  # error
    counts.setdefault("b", fallback)  # error
    counts.change("b", str, 0)  # error
    counts.update({1: 1})  # error
    text: str = counts["b"]  # error
    queue.put_many([1, 2])  # error
    print(text)


def divided(a: int, b: int = 1) -> float:
    return a / b


def several(executor: ProcessPoolExecutor) -> None:
    assert_type(list(executor.map(divided, [1], [2])), list[float])
    assert_type(list(executor.map(divided, [1], [2], on_error="return")), list[float | Exception])
    assert_type(list(executor.map(divided, [1], on_error="stop", timeout=1)), list[float])


async def later(pool: Pool, queue: Queue[str]) -> None:
    result: AsyncResult[int] = pool.apply_async(len, ("a",), timeout=1.5, retries=2)
    assert_type(await result, int)
    async for number in pool.imap(len, ["a"], buffersize=3):
        assert_type(number, int)
    assert_type(await queue.get_async(), str)
    await queue.put_async("a", timeout=1)
    await queue.put_async(1)  # error
    pool.map(len, ["a"], retries="many")  # error
    # exceptions stand in the places of results
    assert_type(pool.map(len, ["a"], on_error="return"), list[int | Exception])
    assert_type(pool.map(len, ["a"], on_error="stop", timeout=1), list[int])
    assert_type(pool.map_async(len, ["a"], on_error="return", retries=1).get(), list[int | Exception])
    assert_type(pool.starmap(divided, [(1, 2)], on_error="return"), list[float | Exception])
    assert_type(pool.starmap_async(divided, [(1, 2)], on_error="return").get(), list[float | Exception])
    assert_type(pool.map_kwargs(divided, [{"a": 1}], on_error="return"), list[float | Exception])
    assert_type(pool.map_kwargs(divided, [{"a": 1}]), list[float])
    for found in pool.imap(len, ["a"], on_error="return", buffersize=2):
        assert_type(found, int | Exception)
    for index, found in pool.imap_unordered(len, ["a"], on_error="return", enumerate=True):
        assert_type((index, found), tuple[int, int | Exception])
    sizes: list[int] = pool.map(len, ["a"], on_error="return")  # error
    pool.map(len, [1], on_error="return")  # error
    pool.map(len, ["a"], on_error="ignore")  # error
    print(sizes)
    for index, number in pool.imap_unordered(len, ["a"], enumerate=True):
        assert_type(index, int)
        assert_type(number, int)
    assert_type(pool.map_kwargs(dict[str, int], [{"a": 1}], on_error="group"), list[dict[str, int]])
    pool.map(len, ["a"], on_error="ignore")  # error
    pool.map(len, ["a"], retries=1, retry_on=(OSError, KeyError), progress=print)
    pool.map(len, ["a"], retries=1, retry_on="OSError")  # error
    mp.report_progress(1, None, text="a")
    mp.report_progress("1", 2)  # error


def start() -> None:
    assert_type(SharedDict({"a": 1}), SharedDict[str, int])
    pairs: list[tuple[int, str]] = [(1, "a")]
    assert_type(SharedDict(pairs), SharedDict[int, str])
    assert_type(SharedDict(a=1.5), SharedDict[str, float])
    made: SharedDict[str, list[int]] = SharedDict()
    made["a"] = [1]
    count(SharedDict({"a": 1}), mp.Queue(maxbytes="1MB", name="words"))
    count(SharedDict({"a": "1"}), mp.Queue())  # error
