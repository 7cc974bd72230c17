"""The main thread sleeps in time.sleep while another process waits: python asleep.py METHOD WHAT.

WHAT the other process waits for: room in a full queue (room); a message, and the only process that has put one was
killed (producer) or is this one (idle); a lock whose holder has ended with it (kept); room that a stopped process would
make (stopped). Or this thread waits for that process, and another one of its threads waits for itself (thread).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import procession as mp


def produce(queue: Any) -> None:
    for number in range(10):
        queue.put(number)


def die(queue: Any) -> None:
    queue.put("the last")
    os.kill(os.getpid(), signal.SIGKILL)


def consume(queue: Any, took: Any) -> None:
    queue.get()
    took.set()
    queue.get()


def keep(lock: Any) -> None:
    lock.acquire()


def stop(queue: Any, took: Any) -> None:
    queue.get()
    took.set()
    os.kill(os.getpid(), signal.SIGSTOP)


def main(method: str, what: str) -> None:
    context = mp.get_context(method)
    queue, took, lock = context.Queue(2, name="jobs"), context.Event(), context.Lock(name="kept")
    waiter = context.Process(target=produce, args=(queue,), name="producer")
    if what in ("producer", "idle"):
        waiter = context.Process(target=consume, args=(queue, took), name="consumer")
        if what == "producer":
            context.Process(target=die, args=(queue,), name="killed").start()
        else:
            queue.put("the last")
    elif what == "kept":
        ender = context.Process(target=keep, args=(lock,), name="ender")
        ender.start()
        ender.join()
        waiter = context.Process(target=keep, args=(lock,), name="waiter")
    elif what == "stopped":
        context.Process(target=stop, args=(queue, took), name="consumer", daemon=True).start()
    waiter.start()
    if what in ("producer", "idle", "stopped"):
        took.wait()
    print("ready", flush=True)
    if what in ("thread", "stopped"):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        waiter.join()
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
