"""The consumer of a bounded queue is killed, or computes: python consumer_killed.py METHOD (killed | computes) [polls].

With "polls" the parent joins the producer with a time limit, again and again.
"""

from __future__ import annotations

import os
import signal
import sys

import procession as mp


def produce(queue) -> None:
    while True:
        queue.put("message")


def consume(queue, how: str, took) -> None:
    queue.get()
    took.set()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        pass


def main(method: str, how: str, polls: str = "") -> None:
    context = mp.get_context(method)
    queue, took = context.Queue(maxsize=3), context.Event()
    consumer = context.Process(target=consume, args=(queue, how, took), name="consumer")
    producer = context.Process(target=produce, args=(queue,), name="producer")
    producer.start()
    consumer.start()
    took.wait()
    if how == "killed":
        consumer.join()
    print("ready", flush=True)
    while polls and producer.is_alive():
        producer.join(0.3)
    producer.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
