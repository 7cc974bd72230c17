"""A task of a pool waits for what the caller has, who waits for results: python through_pool.py METHOD WHAT CALL.

WHAT: the task waits for a lock that the caller holds (lock); for room in a queue that the caller would empty afterwards
(room); for an event that another task would set, for which there is no worker (task). Or nothing hangs: the caller
waits for another task than the one that waits for its lock (healthy); each task has a time limit (limit).

CALL: how the caller waits: map, options, imap, apply, callback, future, executor, join.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future
from typing import Any

import procession as mp
from procession.futures import ProcessPoolExecutor

things: list[Any] = []


def begin(*given: Any) -> None:
    things.extend(given)


def work(what: str) -> None:
    lock, queue, event, begun = things
    if what == "sleep":
        time.sleep(600)
        return
    begun.set()
    if what in ("lock", "limit"):
        with lock:
            pass
    elif what == "room":
        for number in range(10):
            queue.put(number)
    elif what == "task":
        event.wait()
    else:
        event.set()


def nap(what: str) -> None:
    work(what)


def wait(pool: Any, call: str, what: str) -> None:
    inputs = ["task", "task", "set"] if what == "task" else [what, what]
    if call == "map":
        pool.map(work, inputs, chunksize=1)
    elif call == "options":  # the workers call other functions, which call this one
        pool.map(work, inputs, chunksize=2, on_error="return", retries=1, retry_on=OSError)
    elif call == "imap":
        list(pool.imap(work, inputs))
    elif call == "apply":
        results = [pool.apply_async(work, (one,)) for one in inputs]
        results[0].get()
    elif call == "callback":
        results = [pool.apply_async(work, (one,), callback=print) for one in inputs]
        results[0].get()
    elif call == "join":
        for one in inputs:
            pool.apply_async(work, (one,))
        pool.close()
        pool.join()
    elif call == "future":
        futures: list[Future[None]] = [pool.submit(work, one) for one in inputs]
        futures[0].result()
    else:
        list(pool.map(work, inputs))


def main(method: str, what: str, call: str) -> None:
    context = mp.get_context(method)
    given = context.Lock(name="lock"), context.Queue(2, name="results"), context.Event(name="go"), context.Event()
    if call in ("future", "executor"):
        pool: Any = ProcessPoolExecutor(2, context, begin, given)
        pool.submit(pow, 1, 1).result()
    else:
        pool = context.Pool(2, begin, given, timeout=600 if what == "limit" else None, name="pool")
        pool.apply(pow, (1, 1))
    if what == "healthy":
        with given[0]:
            result = pool.apply_async(work, ("lock",)) if call != "future" else pool.submit(work, "lock")
            given[3].wait()
            print("ready", flush=True)
            if call == "map":
                pool.map(nap, ["sleep"])
            elif call == "future":
                pool.submit(work, "sleep").result()
            else:
                pool.apply(work, ("sleep",))
        result.get()
    print("ready", flush=True)
    if what in ("lock", "limit"):
        with given[0]:
            wait(pool, call, what)
    else:
        wait(pool, call, what)


if __name__ == "__main__":
    main(*sys.argv[1:])
