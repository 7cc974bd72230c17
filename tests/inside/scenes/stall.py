"""A process waits for a message, with a report after a while: python stall.py METHOD (variable | function)."""

from __future__ import annotations

import sys

import procession as mp


def consume(queue) -> None:
    queue.get()


def main(method: str, how: str) -> None:
    if how == "function":
        mp.set_stall_report(0.3)
    context = mp.get_context(method)
    queue = context.Queue()
    child = context.Process(target=consume, args=(queue,), name="consumer")
    child.start()
    print("ready", flush=True)
    child.join(2)
    queue.put("a message")
    child.join()
    print("went on", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
