"""What is left when processes are killed: everything that was reported as done, and nothing of those who are gone."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, open_descriptors, running, scaled, state, until
from soak_queue import storm

STORM = 3.0  # seconds that a storm of kills goes on


# --- what the child processes do --------------------------------------------------------------------------------------


def produce(q, producer, path):
    """Puts (producer, 0, ...), (producer, 1, ...) and so on, and notes after each put that it returned."""
    note = os.open(path, os.O_WRONLY | os.O_CREAT)
    number = 0
    while True:
        while q.qsize() > 1000:  # do not run away from who takes
            time.sleep(0.001)
        size = (number * 7919) % 3000 if number % 50 else 100_000
        q.put((producer, number, bytes([number % 251]) * size))
        number += 1
        os.pwrite(note, number.to_bytes(8, "little"), 0)


def consume(q, path):
    """Takes numbers and notes each before it takes the next."""
    note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while (item := q.get()) is not None:
        os.write(note, item[0].to_bytes(8, "little"))


def pass_on(inbox, outbox, path):
    """Takes from one queue and puts into another, until None comes."""
    path.touch()
    while (item := inbox.get()) is not None:
        outbox.put(item)


def fight(lock, path):
    """Enters and leaves the locked section for ever; whoever finds somebody else inside writes down that it did."""
    inside, mine = path / "inside", str(os.getpid())
    (path / f"fights-{mine}").touch()
    while True:
        try:
            with lock:
                inside.write_text(mine)
                found = inside.read_text()
                if found != mine:
                    (path / f"intruder-{found}-{mine}").touch()
        except mp.OwnerDiedError:
            pass


def count_descriptors(objects, q):
    for number, (lock, inner) in enumerate(objects):
        with lock:
            inner.put(number)
    q.put(open_descriptors())


def noted(path: Path) -> int:
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


class Crew:
    """Processes that are killed, one at random after the other, each replaced by a new one."""

    def __init__(self, context: Any, target: Any, args: Any, began: Any, size: int = 3) -> None:
        """args(n): the arguments of the n-th process; began(n, process): the file that it makes when it begins."""
        self.context, self.target, self.args, self.began = context, target, args, began
        self.started: list[Any] = []
        self.killed: list[Any] = []
        self.alive = [self.start() for _ in range(size)]

    def start(self) -> Any:
        number = len(self.started)
        process = self.context.Process(target=self.target, args=self.args(number), daemon=True)
        process.start()
        self.started.append(process)
        until(lambda: self.began(number, process).exists())  # killing it earlier would test something else
        return process

    def storm(self, meanwhile: Any) -> None:
        """For a few seconds, calls meanwhile() again and again, and kills at moments that nobody can foresee."""
        end = time.monotonic() + STORM
        while time.monotonic() < end:
            next_kill = time.monotonic() + random.random() * 0.05
            while time.monotonic() < next_kill:
                meanwhile()
            self.kill(random.randrange(len(self.alive)))

    def kill(self, place: int) -> None:
        self.alive[place].kill()
        self.killed.append(self.alive[place])
        self.alive[place] = self.start()

    def kill_all(self) -> None:
        for process in self.alive:
            process.kill()
        assert set(ended(*self.started)) == {-signal.SIGKILL}


# --- storms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, 4])
def test_what_a_killed_producer_put_is_delivered_once_and_in_order(context, tmp_path, maxsize):
    q = context.Queue(maxsize)
    received: dict[int, int] = {}

    def take_one(timeout=0.01):
        try:
            producer, number, body = q.get(timeout=timeout)
        except queue.Empty:
            return False
        assert number == received.get(producer, 0), f"producer {producer}"
        assert body == bytes([number % 251]) * len(body)
        received[producer] = number + 1
        return True

    def path(number, process=None):
        return tmp_path / str(number)

    crew = Crew(context, produce, lambda n: (q, n, path(n)), path)
    crew.storm(take_one)
    crew.kill_all()
    while take_one(timeout=0.5):
        pass
    assert q.empty()
    for producer in range(len(crew.started)):
        # The last put may have been done and not yet noted.
        assert received.get(producer, 0) - noted(path(producer)) in (0, 1), f"producer {producer}"
    assert sum(received.values()) > 100
    q.put("usable")
    assert q.get(timeout=PATIENCE) == "usable"


@pytest.mark.parametrize("maxsize", [0, 4])
def test_a_killed_consumer_takes_at_most_one_message_along(context, tmp_path, maxsize):
    q = context.Queue(maxsize)
    sent = 0

    def put_one():
        nonlocal sent
        if q.qsize() < 1000:
            q.put((sent, b"x" * (sent % 3000)), timeout=PATIENCE)
            sent += 1

    def path(number, process=None):
        return tmp_path / str(number)

    crew = Crew(context, consume, lambda n: (q, path(n)), path)
    crew.storm(put_one)
    for _ in crew.alive:
        q.put(None, timeout=PATIENCE)
    assert ended(*crew.alive) == [0] * 3
    taken = []
    for notes in (file.read_bytes() for file in tmp_path.iterdir()):
        taken += [int.from_bytes(notes[n : n + 8], "little") for n in range(0, len(notes), 8)]
    assert len(taken) == len(set(taken)), "a message was delivered twice"
    lost, killed = sent - len(taken), len(crew.killed)
    assert lost <= killed, f"{lost} of {sent} messages lost, {killed} consumers killed"
    assert sent > 100
    assert q.empty()


def test_a_chain_of_processes_goes_on_while_its_links_are_killed(context, tmp_path):
    first, last = context.Queue(), context.Queue(10)
    sent = 0
    received: list[int] = []

    def put_and_get():
        nonlocal sent
        if first.qsize() < 1000:
            first.put(sent)
            sent += 1
        if not last.empty():
            received.append(last.get(timeout=PATIENCE))

    def path(number, process=None):
        return tmp_path / str(number)

    crew = Crew(context, pass_on, lambda n: (first, last, path(n)), path)
    crew.storm(put_and_get)
    for _ in crew.alive:
        first.put(None)
    while any(link.is_alive() for link in crew.alive) or not last.empty():
        with contextlib.suppress(queue.Empty):
            received.append(last.get(timeout=0.1))
    assert ended(*crew.alive) == [0] * 3
    assert len(received) == len(set(received)), "a message was delivered twice"
    lost, killed = sent - len(received), len(crew.killed)
    assert lost <= killed, f"{lost} of {sent} messages lost, {killed} links killed"
    assert len(received) > 100


def test_many_producers_and_consumers_that_are_killed_lose_tear_and_leak_nothing(tmp_path):
    """For a few seconds what soak_queue.py does for as long as one likes, and with more processes."""
    happened = storm(mp.get_context("fork"), tmp_path, STORM, side=4)
    assert happened["put"] > 100


def test_a_lock_keeps_excluding_while_its_holders_are_killed(context, tmp_path):
    lock = context.Lock()
    crew = Crew(context, fight, lambda n: (lock, tmp_path), lambda n, process: tmp_path / f"fights-{process.pid}")
    crew.storm(lambda: time.sleep(0.001))
    crew.kill_all()
    assert not list(tmp_path.glob("intruder-*"))
    try:
        assert lock.acquire(timeout=PATIENCE) is True
    except mp.OwnerDiedError:  # at most one is owed, for the last holder
        assert lock.acquire(timeout=PATIENCE) is True
    assert lock.acquire(False) is False
    lock.release()


def test_many_starts_and_kills_leave_no_process_and_no_descriptor(context):
    q = context.Queue()

    def one():
        process = context.Process(target=q.get, daemon=True)
        process.start()
        process.kill()
        assert ended(process) == [-signal.SIGKILL]
        process.close()

    one()  # what is made once for all (the fork server) is made now
    before = open_descriptors()
    for _ in range(20):
        one()
    assert open_descriptors() == before
    assert q.empty()


# --- what is left behind ----------------------------------------------------------------------------------------------

FAMILY = """
import os, sys, time
import procession as mp

def member(lock, q, orders):
    q.put(os.getpid())
    while orders.get() is not None:
        with lock:
            q.put(b"x" * 100_000)

def grandparent(context, lock, q, orders):
    child = context.Process(target=member, args=(lock, q, orders))
    child.start()
    member(lock, q, orders)

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    lock, q, orders = context.Lock(), context.Queue(), context.Queue()
    family = [context.Process(target=member, args=(lock, q, orders)) for _ in range(2)]
    family.append(context.Process(target=grandparent, args=(context, lock, q, orders)))
    for process in family:
        process.start()
    pids = [q.get(timeout=PATIENCE) for _ in range(4)]
    for n in range(1000):
        orders.put(n)
    print(os.getpid(), *pids, flush=True)
    time.sleep(60)
"""


def marked(mark: str) -> list[int]:
    """The pids of living processes that have this mark in their environment."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and state(int(entry)) not in "XZ":
            try:
                environment = Path("/proc", entry, "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environment:
                found.append(int(entry))
    return found


def used_by(pid: int) -> set[str]:
    """Returns the files that a process has mapped or opened."""
    mapped = [line.split(maxsplit=5)[5:] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return {name for names in mapped for name in names} | set(opened)


def test_nothing_is_left_of_a_family_that_was_killed_to_the_last_process(start_method, tmp_path):
    script = tmp_path / "family.py"
    script.write_text(scaled(FAMILY))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    mark = uuid.uuid4().hex
    root = subprocess.Popen(
        [sys.executable, script, start_method],
        env={**os.environ, "TMPDIR": str(temporary), "MARK": mark},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert root.stdout
        pids = [int(pid) for pid in root.stdout.readline().split()]
        assert len(pids) == 5, "the family did not start"
        assert set(pids) <= set(marked(mark))
        assert not os.listdir(temporary), "a file while the family lives"
        named = {name for pid in pids for name in used_by(pid) if name.startswith("/dev/shm/")}
        assert not named, "shared memory with a name while the family lives"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        root.wait(PATIENCE)
        # A fork server is not among those who were killed: it leaves by itself when its last client has gone.
        until(lambda: not marked(mark))
        assert not os.listdir(temporary)
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        root.wait(PATIENCE)
        root.stdout.close()


def test_children_that_are_daemons_do_not_outlive_a_killed_parent(start_method, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        scaled(
            "import os, sys, time\n"
            "import procession as mp\n"
            "def wait(q):\n"
            "    q.put(os.getpid())\n"
            "    time.sleep(60)\n"
            "if __name__ == '__main__':\n"
            "    context = mp.get_context(sys.argv[1])\n"
            "    q = context.Queue()\n"
            "    context.Process(target=wait, args=(q,), daemon=True).start()\n"
            "    print(q.get(timeout=PATIENCE), flush=True)\n"
            "    time.sleep(60)\n"
        )
    )
    mark = uuid.uuid4().hex
    parent = subprocess.Popen(
        [sys.executable, script, start_method], env={**os.environ, "MARK": mark}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout
        daemon = int(parent.stdout.readline())
        assert daemon in marked(mark)
        parent.kill()
        parent.wait(PATIENCE)
        until(lambda: not marked(mark))
    finally:
        for pid in marked(mark):
            os.kill(pid, signal.SIGKILL)
        parent.wait(PATIENCE)
        parent.stdout.close()


def test_a_process_has_one_descriptor_however_many_objects_it_shares(context):
    q = context.Queue()
    q.put("the first object makes the family memory")
    q.get(timeout=PATIENCE)
    before = open_descriptors()
    objects = [(context.Lock(), context.Queue()) for _ in range(300)]
    for lock, inner in objects:
        with lock:
            inner.put(1)
            inner.get(timeout=PATIENCE)
    assert open_descriptors() == before
    counts = []
    for some in (objects[:1], objects):
        with running(context, (count_descriptors, some, q)) as [process]:
            counts.append(q.get(timeout=PATIENCE))
            assert ended(process) == [0]
        process.close()  # a forked child would inherit its sentinel
    assert counts[0] == counts[1]
    assert [inner.get(timeout=PATIENCE) for _, inner in objects[1:]] == list(range(1, 300))
