"""A process is killed with a lock: python holder_killed.py METHOD."""

from __future__ import annotations

import os
import signal
import sys
import time

import procession as mp


def die(lock) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def main(method: str) -> None:
    context = mp.get_context(method)
    lock = context.Lock()
    child = context.Process(target=die, args=(lock,), name="dier")
    child.start()
    child.join()
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
