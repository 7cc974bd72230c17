"""Handles in pickles that nobody looks after: in bytes, in files, in pipes of one's own."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import time
from queue import Empty, Full
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE

MAKERS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Queue", "SimpleQueue"]


@pytest.mark.parametrize("name", MAKERS)
def test_an_object_lives_on_for_a_pickle_though_its_last_reference_is_gone(name: str) -> None:
    data = pickle.dumps(getattr(mp, name)())
    gc.collect()
    first, second = pickle.loads(data), pickle.loads(data)
    assert first._key == second._key if hasattr(first, "_key") else True
    use(name, first)


def use(name: str, thing: Any) -> None:
    if "Queue" in name:
        thing.put(1)
        assert thing.get() == 1
    elif name == "Event":
        thing.set()
        assert thing.wait(PATIENCE)
    else:
        assert thing.acquire(timeout=PATIENCE)
        thing.release()


def put_many(queue: Any, count: int) -> None:
    queue.put([mp.Lock() for _ in range(count)])


@pytest.mark.parametrize("count", [1, 58, 59, 60, 61, 500])
def test_any_number_of_objects_in_one_message_outlives_its_sender(count: int) -> None:
    queue = mp.Queue()
    process = mp.get_context("fork").Process(target=put_many, args=(queue, count))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    locks = queue.get(timeout=PATIENCE)
    assert len(locks) == count
    for lock in locks:
        with lock:
            pass


def play(queue: Any) -> None:
    while True:
        queue.put(1)
        queue.get()


def test_a_stopped_process_does_not_stretch_the_timeouts_of_the_others() -> None:
    queue = mp.Queue()
    process = mp.get_context("fork").Process(target=play, args=(queue,), daemon=True)
    process.start()
    try:
        for _ in range(20):
            os.kill(process.pid or 0, signal.SIGSTOP)
            began = time.monotonic()
            with contextlib.suppress(Full, Empty):
                queue.put(2, timeout=0.3)
            with contextlib.suppress(Full, Empty):
                queue.get(timeout=0.3)
            assert time.monotonic() - began < 3
            os.kill(process.pid or 0, signal.SIGCONT)
    finally:
        process.kill()
        process.join(PATIENCE)
