"""Thousands of shared objects in one program."""

from __future__ import annotations

import pytest

import procession as mp
from deadlines import PATIENCE

MANY = 5000


@pytest.fixture
def context(start_method):
    return mp.get_context(start_method)


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
