"""Processes and threads that wait on something shared, and tell what came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from deadlines import PATIENCE, asleep, until
from procession.synchronize import Condition


def wait_on(thing, timeout=None):
    """The wait that this thing is for."""
    if isinstance(thing, Condition):
        with thing:
            return thing.wait(timeout)
    if hasattr(thing, "wait"):
        return thing.wait(timeout)
    return thing.acquire(timeout=timeout)


def wait_and_tell(thing, log, timeout=None):
    """Says "ready", waits, and says what wait returned, or the name of the exception that it raised."""
    log.put("ready")
    try:
        answer = wait_on(thing, timeout)
    except BaseException as error:
        answer = type(error).__name__
    log.put(answer)


def come_to_wait(log: Any, *processes: Any) -> None:
    """Waits until processes that run wait_and_tell, and nobody else, have come to rest in their wait."""
    for _ in processes:
        assert log.get(timeout=PATIENCE) == "ready"
    for process in processes:
        asleep(process.pid)


def gone(process: Any) -> None:
    """Kills a process and waits until it has gone."""
    process.kill()
    process.join(PATIENCE)
    assert process.exitcode == -signal.SIGKILL


@contextlib.contextmanager
def in_thread(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """A thread that runs call() and notes what it returns or raises; on exit it has to end within the deadline."""
    notes: list[Any] = []

    def run() -> None:
        try:
            notes.append(call())
        except BaseException as error:
            notes.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield notes
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive(), "the thread still waits"


@contextlib.contextmanager
def sleeping_thread(call: Callable[[], Any]) -> Iterator[list[Any]]:
    """Like in_thread, but the block begins when the thread has come to rest."""
    ids: list[int] = []

    def noted() -> Any:
        ids.append(threading.get_native_id())
        return call()

    with in_thread(noted) as notes:
        asleep(os.getpid(), until(lambda: ids)[0])
        yield notes


@contextlib.contextmanager
def ctrl_c_at_rest() -> Iterator[None]:
    """Within the block, this thread (the main one) gets a SIGINT as soon as it has come to rest."""
    main = threading.get_native_id()

    def interrupt() -> None:
        asleep(os.getpid(), main)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
