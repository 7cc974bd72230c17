"""A consumer stops itself inside the consumers' mutex of a queue, or in a change of family memory:

python stopped_inside.py METHOD (queue | change)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time

import procession as mp
from procession import _core

LEDGER = 4096  # the offset of the mutex of all changes
GET_MUTEX = 64 + 3 * 8  # of a queue: the offset of its consumers' mutex


def stop_inside(queue, what: str, started) -> None:
    started.wait()  # nothing can be started any more after this
    memory = mmap.mmap(_core.family_fd(), 64 << 20)
    offset, _generation = queue._key
    mutex = int.from_bytes(memory[offset + GET_MUTEX : offset + GET_MUTEX + 8], "little")
    mutex = mutex if what == "queue" else LEDGER
    place = ctypes.byref(ctypes.c_char.from_buffer(memory, mutex))
    ctypes.CDLL(None).pthread_mutex_lock(place)
    os.kill(os.getpid(), signal.SIGSTOP)


def produce(queue) -> None:
    while True:
        queue.put("message")


def main(method: str, what: str) -> None:
    context = mp.get_context(method)
    queue = context.Queue(maxsize=3)
    started = context.Event()
    children = [
        context.Process(target=stop_inside, args=(queue, what, started), name="consumer"),
        context.Process(target=produce, args=(queue,), name="producer"),
    ]
    for child in children:
        child.start()
    started.set()
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])
