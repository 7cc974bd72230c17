"""A process is stopped in the middle of a change of family memory: the others go on, time out and hear signals."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import threading
import time
from queue import Empty

import pytest

import procession as mp
from deadlines import PATIENCE, state, until
from procession import _core

LEDGER = 4096  # where the robust mutex lies that guards all changes


# --- what the child processes do --------------------------------------------------------------------------------------


def stop_inside(ready):
    """Stops inside the ledger, as a process does that gets SIGSTOP at the wrong moment."""
    memory = mmap.mmap(_core.family_fd(), LEDGER + mmap.PAGESIZE)
    mutex = ctypes.byref(ctypes.c_char.from_buffer(memory, LEDGER))
    library = ctypes.CDLL(None)
    ready.wait()
    library.pthread_mutex_lock(mutex)
    os.kill(os.getpid(), signal.SIGSTOP)
    library.pthread_mutex_unlock(mutex)


def put_big_messages(queue):
    while True:
        queue.put(bytes(100_000_000))
        queue.get()


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped():
    """A function that starts a process which is stopped inside the ledger until the test is over."""
    children = []

    def stop():
        ready = mp.Event()
        child = mp.get_context("fork").Process(target=stop_inside, args=(ready,))
        child.start()
        children.append(child)
        ready.set()
        until(lambda: state(child.pid) == "T")

    yield stop
    for child in children:
        os.kill(child.pid, signal.SIGCONT)
        child.join(PATIENCE)
        assert child.exitcode == 0


def test_timeouts_hold_while_a_process_is_stopped_in_the_middle_of_a_change(stopped):
    queue = mp.Queue()
    queue.put(b"x" * 100_000)  # what its consumer takes over is written in the ledger
    stopped()
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.5)
    assert 0.4 < time.monotonic() - began < PATIENCE / 2


def test_signals_are_heard_while_a_process_is_stopped_in_the_middle_of_a_change(stopped):
    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    def start():
        mp.get_context("fork").Process(target=int).start()

    condition = mp.Condition()
    with condition:
        condition.wait(0)  # the second wait takes another way
    changes = [mp.Lock, mp.Queue, mp.Pipe, lambda: mp.RawArray("b", 10_000_000), start]
    stopped()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with condition:
            for change in (*changes, condition.notify, condition.wait):
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                with pytest.raises(Alarm):
                    change()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_other_threads_go_on_while_one_waits_for_a_process_that_is_stopped(stopped):
    stopped()
    made = []
    maker = threading.Thread(target=lambda: made.append(mp.Lock()), daemon=True)
    maker.start()
    for _ in range(100):
        time.sleep(0.005)  # each of these gives up the interpreter and takes it again
    assert not made


def test_nobody_waits_for_one_who_is_stopped_in_the_middle_of_a_big_message():
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=put_big_messages, args=(queue,), daemon=True)
    child.start()
    try:
        for _ in range(20):
            time.sleep(0.02)  # wherever it is by then
            os.kill(child.pid, signal.SIGSTOP)
            until(lambda: state(child.pid) == "T")
            signal.alarm(5)  # ends the program: it would wait for ever
            mp.Lock()
            signal.alarm(0)
            os.kill(child.pid, signal.SIGCONT)
    finally:
        child.kill()
        child.join()
