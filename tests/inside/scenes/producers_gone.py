"""All producers of a queue have ended, and its consumers wait: python producers_gone.py METHOD."""

from __future__ import annotations

import sys

import procession as mp


def consume(queue) -> None:
    while True:
        queue.get()


def produce(queue) -> None:
    queue.put("message")


def start(context) -> list:
    queue = context.Queue()
    consumers = [context.Process(target=consume, args=(queue,), name=f"consumer{n}") for n in range(2)]
    producer = context.Process(target=produce, args=(queue,), name="producer")
    for process in (*consumers, producer):
        process.start()
    producer.join()
    return consumers


def main(method: str) -> None:
    consumers = start(mp.get_context(method))
    print("ready", flush=True)
    for process in consumers:
        process.join()


if __name__ == "__main__":
    main(sys.argv[1])
