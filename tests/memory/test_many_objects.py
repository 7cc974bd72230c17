"""Thousands of shared objects in one program."""

from __future__ import annotations

import base64
import os
import pickle
import subprocess
import sys

import procession as mp
from deadlines import PATIENCE

MANY = 5000


def use_all(locks, answers):
    for lock in locks:
        lock.acquire()
    answers.put(len(locks))


def test_a_process_gets_thousands_of_locks_and_uses_each(context):
    locks = [context.Lock() for _ in range(MANY)]
    answers = context.Queue()
    child = context.Process(target=use_all, args=(locks, answers))
    child.start()
    assert answers.get(timeout=PATIENCE) == MANY
    child.join()
    assert child.exitcode == 0
    assert not any(lock.acquire(block=False) for lock in locks)


def test_thousands_of_locks_travel_in_messages_and_are_the_same_ones():
    queue = mp.Queue()
    locks = [mp.Lock() for _ in range(MANY)]
    queue.put_many(locks)
    got = []
    while len(got) < MANY:
        got += queue.get_many(MANY)
    for lock in locks[::7]:
        lock.acquire()
    assert [not lock.acquire(block=False) for lock in got] == [number % 7 == 0 for number in range(MANY)]


def test_the_memory_of_other_programs_is_left_when_nothing_of_it_is_referred_to():
    code = (
        "import base64, pickle, sys, procession as mp; lock = mp.Lock(); "
        "print(base64.b64encode(pickle.dumps(lock)).decode(), flush=True); sys.stdin.read()"
    )
    mp.Lock()
    counts = []
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            lock = pickle.loads(base64.b64decode(program.stdout.readline()))
            with lock:
                pass
            del lock
            counts.append(len(os.listdir("/proc/self/fd")))
            program.communicate()
    assert counts == counts[:1] * 5
