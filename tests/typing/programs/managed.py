"""Managers and proxies, as a typed program of a user has them."""

import threading
from typing import reveal_type

import procession as mp
from procession.managers import BaseManager, DictProxy, ListProxy, SyncManager, ValueProxy


def work(results: DictProxy[str, int], names: ListProxy[str], total: ValueProxy[float], stop: threading.Event) -> None:
    reveal_type(results["a"])
    reveal_type(results.get("a"))
    reveal_type(results.copy())
    reveal_type(results.keys())
    reveal_type(results.items())
    reveal_type(results.pop("a"))
    reveal_type(list(results))
    reveal_type(len(results))
    results["a"] = 1
    reveal_type(names[0])
    reveal_type(names[0:2])
    reveal_type(names.pop())
    reveal_type(names.index("a"))
    names.append("a")
    names += ["b"]
    reveal_type([name for name in names])
    reveal_type(total.value)
    reveal_type(total.get())
    total.value = 1.5
    reveal_type(stop.is_set())
    # wrong keys and values
    results["a"] = "x"  # error
    results[1] = 1  # error
    names.append(1)  # error
    names[0] = b""  # error
    total.value = "x"  # error
    total.set("x")  # error


class Own(BaseManager):
    pass


def start() -> None:
    with mp.Manager() as manager:
        reveal_type(manager)
        reveal_type(manager.dict())
        reveal_type(manager.dict({"a": 1}))
        reveal_type(manager.dict(a=1.5))
        reveal_type(manager.list())
        reveal_type(manager.list(["a"]))
        reveal_type(manager.Value("d", 1.5))
        reveal_type(manager.Array("i", [1, 2]))
        reveal_type(manager.Namespace())
        reveal_type(manager.Queue())
        reveal_type(manager.Lock())
        reveal_type(manager.Event())
        reveal_type(manager.Semaphore(2))
        reveal_type(manager.Barrier(2))
        reveal_type(manager.Pool(2).map(len, ["a"]))
        work(manager.dict({"a": 1}), manager.list(["a"]), manager.Value("d", 1.5), manager.Event())
        work(manager.dict({"a": "x"}), manager.list(["a"]), manager.Value("d", 1.5), manager.Event())  # error
    plain: SyncManager = mp.get_context("spawn").Manager()
    plain.shutdown()
    Own.register("Queue")
    with Own() as own:
        reveal_type(own.address)
    Own.register(3)  # error
