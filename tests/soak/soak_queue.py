"""Sixteen producers and sixteen consumers of one queue, which are killed at random and replaced.

    python tests/soak/soak_queue.py --seconds 60

At the end every message is accounted for: none is torn, none came twice, and those that a finished `put` handed over
were taken, but for one at most with each consumer that was killed. And as many blocks of memory are in use as before.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import procession as mp
from procession import _core

SIDE = 16
RECORD = 12  # producer and number, as noted by who took a message


def produce(q: Any, producer: int, folder: Path) -> None:
    dice = random.Random(producer)
    note = os.open(folder / f"put-{producer}", os.O_WRONLY | os.O_CREAT)
    number = 0
    while True:
        size = dice.choice((0, 10, 1000, 20_000, 300_000, 1_000_000)) if dice.random() < 0.2 else dice.randrange(500)
        body = dice.randbytes(size)
        q.put((producer, number, zlib.crc32(body), body))
        number += 1
        os.pwrite(note, number.to_bytes(8, "little"), 0)


def consume(q: Any, folder: Path) -> None:
    note = os.open(folder / f"got-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        producer, number, check, body = q.get()
        if zlib.crc32(body) != check:
            (folder / f"torn-{producer}-{number}").touch()
        os.write(note, producer.to_bytes(4, "little") + number.to_bytes(8, "little"))


def storm(context: Any, folder: Path, seconds: float, side: int) -> dict[str, int]:
    """Goes on for so many seconds; what happened. AssertionError: something that must not."""
    (folder / "before").mkdir()
    rage(context, folder / "before", 2, side)  # the first held tables and pages of mutexes stay
    before = blocks()
    happened = rage(context, folder, seconds, side)
    leaked = blocks() - before
    assert leaked <= 0, f"{leaked} blocks leaked"
    return {**happened, "leaked": leaked}


def blocks() -> int:
    """How many blocks of family memory are in use."""
    gc.collect()
    _core.sweep()
    return _core._blocks()


def rage(context: Any, folder: Path, seconds: float, side: int) -> dict[str, int]:
    q = context.Queue(maxsize=200)
    producers: list[Any] = []
    numbers = iter(range(10**9))

    def start(target: Any, *args: Any) -> Any:
        process = context.Process(target=target, args=args, daemon=True)
        process.start()
        return process

    def producer() -> Any:
        return start(produce, q, next(numbers), folder)

    def consumer() -> Any:
        return start(consume, q, folder)

    producers = [producer() for _ in range(side)]
    consumers = [consumer() for _ in range(side)]
    killed_consumers = killed_producers = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(random.random() * 0.05)
        place = random.randrange(side)
        if random.random() < 0.5:
            producers[place].kill()
            producers[place].join()
            producers[place] = producer()
            killed_producers += 1
        else:
            consumers[place].kill()
            consumers[place].join()
            consumers[place] = consumer()
            killed_consumers += 1
    for process in producers:
        process.kill()
        process.join()
    killed_producers += side
    limit = time.monotonic() + 60
    while not q.empty():
        assert time.monotonic() < limit, "the consumers do not empty the queue any more"
        time.sleep(0.01)
    time.sleep(0.2)  # the last ones are being noted
    for process in consumers:
        process.kill()
        process.join()
    killed_consumers += side

    assert not list(folder.glob("torn-*")), "a message was torn"
    put = sum(int.from_bytes(file.read_bytes(), "little") for file in folder.glob("put-*"))
    got: Counter[bytes] = Counter()
    for file in folder.glob("got-*"):
        notes = file.read_bytes()
        got.update(notes[at : at + RECORD] for at in range(0, len(notes) - RECORD + 1, RECORD))
    assert not got or max(got.values()) == 1, "a message was delivered twice"
    # a put may be done and not yet noted when its process is killed; a consumer may have taken one and not noted it
    lost = put - len(got)
    assert -killed_producers <= lost <= killed_consumers, f"{lost} lost"
    return {"put": put, "got": len(got), "killed": killed_producers + killed_consumers}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), default="fork")
    parser.add_argument("--side", type=int, default=SIDE)
    options = parser.parse_args()
    signal.alarm(int(options.seconds) + 120)  # a hang ends in this
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context(options.start_method)
        print(storm(context, Path(folder), options.seconds, options.side))
    return 0


if __name__ == "__main__":
    sys.exit(main())
