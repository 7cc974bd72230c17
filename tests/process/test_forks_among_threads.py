"""Forks and looks at the children while other threads are in the midst of something."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, until
from procession import util
from procession.shared_memory import SharedMemory
from programs import run


@contextmanager
def busy(work: Callable[[], object], threads: int) -> Iterator[list[BaseException]]:
    """Threads that do something again and again; what it raised."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def go_on() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in started:
            thread.join(PATIENCE)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns a thousand times more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def in_bare_fork(work: Callable[[], object]) -> int:
    """What a child of `os.fork()` ends with in which that is done: 0 if it was; -SIGALRM if it took too long."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(PATIENCE))
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.usefixtures("frequent_switches")
def test_children_are_listed_while_other_threads_start_and_join_some():
    context = mp.get_context("fork")

    def start_and_join() -> None:
        process = context.Process(target=abs, args=(1,))
        process.start()
        process.join()

    stay = [context.Process(target=signal.pause, daemon=True) for _ in range(20)]
    for process in stay:
        process.start()
    with busy(start_and_join, 2) as errors, warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for _ in range(2000):
            assert {process.pid for process in stay} <= {child.pid for child in mp.active_children()}
    assert errors == []
    for process in stay:
        process.kill()
    ended(*stay)


def make_segment() -> None:
    segment = SharedMemory(create=True, size=100)
    segment.close()
    segment.unlink()


def test_a_bare_fork_makes_segments_whatever_other_threads_were_at():
    with busy(make_segment, 3) as errors:
        assert [in_bare_fork(make_segment) for _ in range(30)] == [0] * 30
    assert errors == []


FIRST = """
    import os, signal, threading, warnings
    from procession.shared_memory import SharedMemory

    warnings.simplefilter("ignore")

    def make():
        segment = SharedMemory(create=True, size=100)
        segment.close()
        segment.unlink()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        make()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_bare_fork_does_so_while_others_make_the_first_segment_of_all():
    for _ in range(5):
        assert run("-c", textwrap.dedent(FIRST)).well() == "0\n"


@pytest.mark.parametrize("fork", ["bare", "ours"])
def test_a_fork_aware_lock_is_free_in_every_forked_child(fork):
    lock = util.ForkAwareThreadLock()
    held, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)

    def take() -> None:
        assert lock.acquire(timeout=PATIENCE / 2)
        lock.release()

    try:
        if fork == "bare":
            assert in_bare_fork(take) == 0
        else:
            process: Any = mp.get_context("fork").Process(target=take)
            process.start()
            assert ended(process) == [0]
    finally:
        leave.set()
        thread.join()
    until(lambda: lock.acquire(False))
    lock.release()
