"""Recursive locks, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running
from waiting import come_to_wait, ctrl_c_at_rest, gone, in_thread, sleeping_thread, wait_and_tell

# --- what the child processes do --------------------------------------------------------------------------------------


def add_one_often(lock, path, times):
    """Reads, adds one and writes back: loses counts unless the lock keeps the others out."""
    for _ in range(times):
        with lock, lock:
            path.write_text(str(int(path.read_text()) + 1))


def take_and_end(lock, ending):
    lock.acquire()
    lock.acquire()
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif ending == "sys.exit(3)":
        sys.exit(3)
    assert ending == "clean"


def hold(lock, log):
    with lock:
        log.put("held")
        while True:
            signal.pause()


def release_it(lock, log):
    try:
        lock.release()
    except BaseException as error:
        log.put(type(error).__name__)


def show(lock, log):
    log.put(repr(lock))


# --- what a recursive lock is -----------------------------------------------------------------------------------------


def test_one_process_at_a_time_holds_the_lock(context, tmp_path):
    lock, path = context.RLock(), tmp_path / "number"
    path.write_text("0")
    with running(context, *[(add_one_often, lock, path, 100)] * 4) as processes:
        assert ended(*processes) == [0] * 4
    assert path.read_text() == "400"


def test_who_holds_it_may_acquire_it_again_and_has_to_release_it_as_often():
    lock = mp.RLock()
    for _ in range(3):
        assert lock.acquire() is True
    for _ in range(3):
        with in_thread(lambda: lock.acquire(False)) as refused:
            pass
        assert refused == [False]
        assert lock.release() is None
    with in_thread(lambda: (lock.acquire(False), lock.release())) as taken:
        pass
    assert taken == [(True, None)]


def test_it_can_be_acquired_a_thousand_times_over():
    lock = mp.RLock()
    for n in range(1, 1001):
        assert lock.acquire(timeout=0) is True
        assert lock._semlock._count() == n
    for _ in range(1000):
        lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.0])
def test_a_timeout_of_zero_or_less_does_not_wait(timeout):
    lock = mp.RLock()
    with lock:
        with in_thread(lambda: lock.acquire(True, timeout)) as notes:
            pass
        assert notes == [False]
        assert lock.acquire(timeout=timeout) is True
        lock.release()


def test_a_timeout_is_waited_out_and_no_longer(context):
    lock, log = context.RLock(), context.Queue()
    with running(context, (hold, lock, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "held"
        began = time.monotonic()
        assert lock.acquire(timeout=0.2) is False
        assert 0.2 <= time.monotonic() - began < 5
        gone(process)


def test_only_the_thread_that_holds_it_may_release_it(context):
    lock, log = context.RLock(), context.Queue()
    with pytest.raises(AssertionError):
        lock.release()
    with lock:
        with in_thread(lock.release) as notes:
            pass
        assert type(notes[0]) is AssertionError
        with running(context, (release_it, lock, log)) as [process]:
            assert log.get(timeout=PATIENCE) == "AssertionError"
            assert ended(process) == [0]
        assert lock.locked()
    assert not lock.locked()
    with pytest.raises(AssertionError):
        lock.release()


def test_a_blocked_acquire_goes_on_when_the_holder_has_released_for_the_last_time(context):
    lock, log = context.RLock(), context.Queue()
    with lock, running(context, (wait_and_tell, lock, log)) as [process]:
        come_to_wait(log, process)
        with lock:
            pass
        assert log.empty()
        lock.release()
        assert log.get(timeout=PATIENCE) is True
        # it ended holding the lock
        assert ended(process) == [0]
        with pytest.raises(mp.OwnerDiedError):
            lock.acquire(timeout=PATIENCE)
        lock.acquire()


def test_locked_tells_whether_anybody_holds_it(context):
    lock = context.RLock()
    assert lock.locked() is False
    with lock:
        assert lock.locked() is True
        with in_thread(lock.locked) as notes:
            pass
        assert notes == [True]
    assert lock.locked() is False


def test_its_repr_tells_who_holds_it_and_how_often(context):
    lock, log = context.RLock(), context.Queue()
    assert repr(lock) == "<RLock(None, 0)>"
    with lock, lock:
        assert repr(lock) == "<RLock(MainProcess, 2)>"
        with in_thread(lambda: repr(lock)) as notes:
            pass
        assert notes == ["<RLock(SomeOtherThread, nonzero)>"]
        with running(context, (show, lock, log)) as [process]:
            assert log.get(timeout=PATIENCE) == "<RLock(SomeOtherProcess, nonzero)>"
            assert ended(process) == [0]

    def in_a_thread():
        with lock:
            return repr(lock)

    with in_thread(in_a_thread) as notes:
        pass
    assert notes[0].startswith("<RLock(MainProcess|Thread-") and notes[0].endswith(", 1)>")
    assert repr(context.RLock(name="jobs")) == "<RLock(None, 0, name='jobs')>"


def test_a_forked_child_does_not_hold_what_its_parent_holds():
    context = mp.get_context("fork")
    lock, log = context.RLock(), context.Queue()
    with lock, running(context, (release_it, lock, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "AssertionError"
        assert ended(process) == [0]
    assert not lock.locked()


# --- when the holder ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "exitcode"), [("killed", -9), ("sys.exit(3)", 3), ("clean", 0)])
def test_however_the_holder_ended_the_next_acquire_is_told_once(context, ending, exitcode):
    lock = context.RLock()
    with running(context, (take_and_end, lock, ending)) as [process]:
        assert ended(process) == [exitcode]
    with pytest.raises(mp.OwnerDiedError) as caught:
        lock.acquire(timeout=PATIENCE)
    assert caught.value.pid == process.pid
    assert caught.value.name == process.name
    assert caught.value.exitcode == exitcode
    assert not lock.locked()
    with lock, lock:
        with in_thread(lambda: lock.acquire(False)) as refused:
            pass
        assert refused == [False]
    assert not lock.locked()


def test_a_waiter_is_told_at_once_when_the_holder_is_killed_and_the_others_get_the_lock(context):
    lock, log = context.RLock(), context.Queue()
    with running(context, (hold, lock, log)) as [holder]:
        assert log.get(timeout=PATIENCE) == "held"
        with running(context, *[(wait_and_tell, lock, log)] * 2) as waiters:
            come_to_wait(log, *waiters)
            holder.kill()  # and nobody joins it: the waiters have to find out by themselves
            began = time.monotonic()
            answers = {log.get(timeout=PATIENCE) for _ in waiters}
            assert time.monotonic() - began < 5
            assert answers == {"OwnerDiedError", True}
            assert ended(*waiters) == [0, 0]


def test_without_robust_a_dead_holder_is_waited_for_without_end(context):
    lock = context.RLock(robust=False)
    with running(context, (take_and_end, lock, "killed")) as [process]:
        assert ended(process) == [-9]
    assert lock.acquire(timeout=0.3) is False
    assert lock.acquire(False) is False


def test_killing_a_waiter_neither_takes_nor_breaks_the_lock(context):
    lock, log = context.RLock(), context.Queue()
    with lock, running(context, *[(wait_and_tell, lock, log)] * 2) as [first, second]:
        come_to_wait(log, first, second)
        gone(first)
        lock.release()
        assert log.get(timeout=PATIENCE) is True
        assert ended(second) == [0]
        with pytest.raises(mp.OwnerDiedError):
            lock.acquire(timeout=PATIENCE)
        lock.acquire()


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_acquire_and_the_lock_stays_usable(context):
    lock, log = context.RLock(), context.Queue()
    with running(context, (hold, lock, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "held"
        with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
            lock.acquire()
        assert lock.acquire(False) is False
        gone(process)
    with pytest.raises(mp.OwnerDiedError):
        lock.acquire(timeout=PATIENCE)
    with lock:
        pass


def test_a_thread_that_waits_for_the_lock_does_not_stop_the_others():
    lock = mp.RLock()
    lock.acquire()

    def take():
        with lock:
            return "taken"

    with sleeping_thread(take) as notes:
        assert notes == []
        lock.release()
    assert notes == ["taken"]
