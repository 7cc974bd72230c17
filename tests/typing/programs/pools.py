"""Pools of processes and threads, as a typed program of a user has them."""

from collections.abc import Iterator
from typing import reveal_type

import procession as mp
from procession.pool import AsyncResult, MapResult, Pool, ThreadPool


def length(text: str) -> int:
    return len(text)


def ratio(first: int, second: int, *, scale: float = 1.0) -> float:
    return first / second * scale


def on_result(value: float) -> None:
    print(value)


def on_text(text: str) -> None:
    print(text)


def on_error(error: BaseException) -> None:
    print(error)


def words() -> Iterator[str]:
    yield "word"


def work(pool: Pool, threads: ThreadPool) -> list[int]:
    reveal_type(pool.apply(ratio, (1, 2)))
    reveal_type(pool.apply(ratio, (1, 2), {"scale": 2.0}))
    one = pool.apply_async(ratio, (1, 2), {}, on_result, on_error)
    reveal_type(one)
    reveal_type(one.get())
    reveal_type(one.get(1))
    reveal_type(one.ready())
    reveal_type(one.successful())
    reveal_type(one.wait(1.5))
    many = pool.map_async(length, words(), 10, print, on_error)
    reveal_type(many)
    reveal_type(many.get())
    reveal_type(pool.map(length, ["a", "b"]))
    reveal_type(pool.map(length, words(), chunksize=2))
    reveal_type(pool.map(lambda text: text.upper(), ["a"]))
    reveal_type(pool.starmap(ratio, [(1, 2)]))
    reveal_type(pool.starmap_async(ratio, [(1, 2)]).get())
    reveal_type(pool.imap(length, words()))
    reveal_type(next(pool.imap(length, words(), 3)))
    reveal_type(pool.imap_unordered(length, words()).next(1.0))
    for count in pool.imap_unordered(length, words()):
        reveal_type(count)
    reveal_type(threads.map(length, {"a": 1}))
    reveal_type(threads.apply_async(length, ("a",)).get())
    kept: list[AsyncResult[float]] = [one]
    lists: MapResult[int] = many
    print(kept, lists)
    # wrong arguments and results
    pool.map(length, [1, 2])  # error
    pool.imap(length, [b""])  # error
    pool.imap_unordered(length, [None])  # error
    pool.map_async(length, [1.5])  # error
    pool.starmap(ratio, [1])  # error
    pool.apply(3)  # error
    pool.apply(ratio, 5)  # error
    pool.apply_async(ratio, (1, 2), callback=on_text)  # error
    texts: list[str] = pool.map(length, ["a"])  # error
    result: AsyncResult[str] = pool.apply_async(length, ("a",))  # error
    print(texts, result)
    return pool.map(length, words())


def start() -> None:
    with mp.Pool(2, initializer=print, initargs=("ready",)) as pool, ThreadPool(2) as threads:
        reveal_type(pool)
        reveal_type(threads)
        work(pool, threads)
    reveal_type(mp.get_context("fork").Pool())
    mp.Pool("two")  # error
