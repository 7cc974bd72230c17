"""Members of a family are ill-treated at random while others count messages, tasks and locks.

    python tests/soak/soak_hostile.py --seconds 120

A member is killed; stopped and continued; has its address space or its descriptors limited for a while, so that memory
and descriptors are refused; closes all descriptors that it has; forks a child of its own that Procession knows nothing
of. At the end every message and every task is accounted for, the two counters that a lock guards agree, and at no time
did messages, tasks or locks stand still for much longer than a stop lasts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import procession as mp

RECORD = 12  # producer and number, as noted by the consumer that took a message
STOP = 0.5  # seconds that a member is stopped at most
STILL = 8.0  # seconds without progress that count as a hang: a stop, and a replaced member's start on a busy machine


def close_everything(signum: int, frame: Any) -> None:
    os.closerange(3, 1024)


def fork_bare(signum: int, frame: Any) -> None:
    with contextlib.suppress(OSError):  # the fork is refused
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)


def begin() -> None:
    signal.signal(signal.SIGUSR1, close_everything)
    signal.signal(signal.SIGUSR2, fork_bare)


def note(path: Path, data: bytes, append: bool) -> None:
    """Writes to a file by its name, however often a signal's handler closes the descriptor."""
    written = False
    while not written:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else 0))
            try:
                os.write(fd, data)
                written = True
            finally:
                os.close(fd)  # fails if a handler has closed it since: what was written counts


def produce(q: Any, producer: int, folder: Path) -> None:
    begin()
    for number in range(10**12):
        while True:
            try:
                q.put((producer, number))
                break
            except (MemoryError, OSError):
                note(folder / f"refused-{os.getpid()}", b"x", True)
        note(folder / f"put-{producer}", (number + 1).to_bytes(8, "little"), False)


def consume(q: Any, folder: Path) -> None:
    begin()
    while True:
        try:
            producer, number = q.get()
        except (MemoryError, OSError):
            note(folder / f"refused-{os.getpid()}", b"x", True)
            continue
        note(folder / f"got-{os.getpid()}", producer.to_bytes(4, "little") + number.to_bytes(8, "little"), True)


def count(lock: Any, counters: Any) -> None:
    """Keeps two counters equal under a lock. Who inherits the lock from a dead process mends them."""
    begin()
    while True:
        try:
            lock.acquire()
        except mp.OwnerDiedError:
            with lock:
                counters[1] = counters[0]
            continue
        except (MemoryError, OSError):
            continue
        counters[0] += 1
        counters[1] += 1
        lock.release()


def square(x: int) -> int:
    return x * x


class Watch:
    """Sees to it that something goes on happening."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, float]] = {}
        self.longest: Counter[str] = Counter()

    def look(self, name: str, value: int) -> None:
        before, since = self.values.get(name, (-1, time.monotonic()))
        still = time.monotonic() - since
        self.longest[name] = max(self.longest[name], int(still * 1000))
        assert still < STILL, f"{name} stand still for {still:.1f} s"
        if value != before:
            self.values[name] = value, time.monotonic()


def mistreat(pid: int, dice: random.Random) -> str:
    """Does something to a process; what it was."""
    how = dice.choice(("kill", "stop", "stop", "memory", "descriptors", "close", "fork"))
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
        elif how == "stop":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(dice.random() * STOP)
            os.kill(pid, signal.SIGCONT)
        elif how in ("memory", "descriptors"):
            kind = resource.RLIMIT_AS if how == "memory" else resource.RLIMIT_NOFILE
            least = _address_space(pid) + (1 << 20) if how == "memory" else 3
            before = resource.prlimit(pid, kind, (least, resource.prlimit(pid, kind)[1]))
            time.sleep(dice.random() * STOP)
            resource.prlimit(pid, kind, before)
        else:
            os.kill(pid, signal.SIGUSR1 if how == "close" else signal.SIGUSR2)
    return how


def _address_space(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def storm(context: Any, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Goes on for so many seconds; what happened. AssertionError: something that must not."""
    dice = random.Random(seed)
    q, lock, counters = context.Queue(maxsize=500), context.Lock(), context.RawArray("q", 2)
    numbers = iter(range(10**9))
    makers: list[Any] = [
        *[lambda: (produce, (q, next(numbers), folder))] * 3,
        *[lambda: (consume, (q, folder))] * 3,
        *[lambda: (count, (lock, counters))] * 2,
    ]
    members: list[Any] = [None] * len(makers)
    died: Counter[str] = Counter()

    def fill(first: int = 0) -> None:
        for place, make in list(enumerate(makers))[first:]:
            member = members[place]
            if member is None or member.exitcode is not None:
                target, args = make()
                if member is not None:
                    member.join()
                    died[target.__name__] += 1
                members[place] = context.Process(target=target, args=args, daemon=True)
                members[place].start()

    watch, done, end = Watch(), Counter(), time.monotonic() + seconds  # type: ignore[var-annotated]
    trouble: list[BaseException] = []

    def tasks() -> None:
        try:
            with context.Pool(3, begin, retries=1000) as pool:
                workers[:] = [pool]
                while time.monotonic() < end:
                    base = dice.randrange(1 << 30)
                    assert pool.map(square, range(base, base + 200), 5) == [x * x for x in range(base, base + 200)]
                    done["tasks"] += 200
        except BaseException as error:
            trouble.append(error)

    workers: list[Any] = []
    thread = threading.Thread(target=tasks)
    fill()
    thread.start()
    happened: Counter[str] = Counter()
    while time.monotonic() < end and not trouble:
        victims = [member.pid for member in members] + [process.pid for pool in workers for process in pool._pool]
        happened[mistreat(dice.choice(victims), dice)] += 1
        fill()
        watch.look("messages", sum(file.stat().st_size for file in folder.glob("got-*")))
        watch.look("locks", counters[0])
        if thread.is_alive():
            watch.look("tasks", done["tasks"])
        time.sleep(dice.random() * 0.05)
    thread.join(60)
    if trouble:
        raise trouble[0]
    assert not thread.is_alive(), "a task hangs"

    for member in members[:3]:
        member.kill()
        member.join()
    limit = time.monotonic() + 60
    while not q.empty():
        assert time.monotonic() < limit, "the consumers do not empty the queue any more"
        fill(3)
        time.sleep(0.01)
    got_all = lambda: sum(file.stat().st_size for file in folder.glob("got-*"))  # noqa: E731
    settled, since = got_all(), time.monotonic()
    while time.monotonic() - since < 0.5:
        if got_all() != settled:
            settled, since = got_all(), time.monotonic()
        time.sleep(0.01)
    for member in members[3:]:
        member.kill()
        member.join()
    try:
        lock.acquire(timeout=30)
    except mp.OwnerDiedError:
        counters[1] = counters[0]
    assert counters[0] == counters[1], "a lock was held by two"

    put = sum(int.from_bytes(file.read_bytes(), "little") for file in folder.glob("put-*"))
    got: Counter[bytes] = Counter()
    for file in folder.glob("got-*"):
        notes = file.read_bytes()
        got.update(notes[at : at + RECORD] for at in range(0, len(notes) - RECORD + 1, RECORD))
    assert not got or max(got.values()) == 1, "a message was delivered twice"
    lost = put - len(got)
    most = died["consume"] + 3
    assert -(died["produce"] + 3) <= lost <= most, f"{lost} messages lost, with {most} consumers killed"
    refused = sum(file.stat().st_size for file in folder.glob("refused-*"))
    return {
        "messages": len(got),
        "lost with killed consumers": max(0, lost),
        "tasks": done["tasks"],
        "locks": counters[0],
        "refused": refused,
        "longest still, ms": dict(watch.longest),
        **happened,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--start-method", choices=("fork", "spawn", "forkserver"), default="fork")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    signal.alarm(int(options.seconds) + 180)  # a hang ends in this
    print("seed", options.seed, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(storm(mp.get_context(options.start_method), Path(folder), options.seconds, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
