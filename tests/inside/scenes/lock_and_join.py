"""A parent holds a lock and joins a child that acquires it: python lock_and_join.py METHOD."""

from __future__ import annotations

import sys

import procession as mp


def work(lock) -> None:
    with lock:
        pass


def main(method: str) -> None:
    context = mp.get_context(method)
    lock = context.Lock()
    with lock:
        child = context.Process(target=work, args=(lock,), name="child")
        child.start()
        print("ready", flush=True)
        child.join()


if __name__ == "__main__":
    main(sys.argv[1])
