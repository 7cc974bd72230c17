"""Locks, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, running, until
from waiting import in_thread

# --- what the child processes do --------------------------------------------------------------------------------------


def add_one_often(lock, path, times):
    """Reads, adds one and writes back: loses counts unless the lock keeps the others out."""
    for _ in range(times):
        with lock:
            with open(path) as file:
                number = int(file.read())
            with open(path, "w") as file:
                file.write(str(number + 1))


def hold(lock, log):
    """Takes the lock, says so, and never lets go."""
    lock.acquire()
    log.put(os.getpid())
    while True:
        signal.pause()


def release_it(lock):
    lock.release()


def take_and_end(lock, ending):
    lock.acquire()
    if ending == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif ending == "os._exit(9)":
        os._exit(9)
    elif ending == "sys.exit(3)":
        sys.exit(3)
    elif ending == "exception":
        sys.stderr = open(os.devnull, "w")
        raise RuntimeError("while holding the lock")
    assert ending == "clean"


def take_then_tell(lock, log):
    """What happened when the lock was asked for: 'taken', or the error's name and words."""
    log.put(("ready", ""))
    try:
        lock.acquire()
        log.put(("taken", ""))
        lock.release()
    except mp.OwnerDiedError as error:
        log.put(("OwnerDiedError", str(error)))


def report_interrupt(lock, log):
    log.put("ready")
    try:
        lock.acquire()
    except KeyboardInterrupt:
        log.put("interrupted")
    lock.acquire()
    log.put("taken")
    lock.release()


def waiting(log, *processes):
    """Waits until processes that run take_then_tell have come as far as they get: they wait for the lock."""
    for _ in processes:
        assert log.get(timeout=PATIENCE) == ("ready", "")
    for process in processes:
        asleep(process.pid)


# --- what a lock is ---------------------------------------------------------------------------------------------------


def test_one_process_at_a_time_holds_the_lock(context, tmp_path):
    lock, path = context.Lock(), tmp_path / "number"
    path.write_text("0")
    with running(context, *[(add_one_often, lock, path, 200)] * 4) as processes:
        assert ended(*processes) == [0] * 4
    assert path.read_text() == "800"


def test_acquire_says_whether_it_got_the_lock(context):
    lock = context.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(block=False) is False
    lock.release()
    assert lock.acquire(False) is True
    lock.release()


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.0])
def test_a_timeout_of_zero_or_less_does_not_wait(context, timeout):
    lock = context.Lock()
    assert lock.acquire(timeout=timeout) is True
    began = time.monotonic()
    assert lock.acquire(True, timeout) is False
    assert time.monotonic() - began < 5
    lock.release()


def test_a_timeout_is_waited_out_and_no_longer(context):
    lock = context.Lock()
    assert lock.acquire(timeout=None) is True
    began = time.monotonic()
    assert lock.acquire(timeout=0.2) is False
    assert 0.2 <= time.monotonic() - began < 5
    lock.release()


def test_another_process_may_release_the_lock(context):
    lock = context.Lock()
    lock.acquire()
    with running(context, (release_it, lock)) as [process]:
        assert lock.acquire(timeout=PATIENCE) is True
        assert ended(process) == [0]
    lock.release()


def test_another_thread_may_release_the_lock():
    lock = mp.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    assert lock.acquire(timeout=PATIENCE) is True
    thread.join()
    lock.release()


def test_releasing_a_free_lock_is_an_error_and_changes_nothing(context):
    lock = context.Lock()
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        lock.release()
    assert lock.acquire(False) is True
    assert lock.acquire(False) is False
    lock.release()
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        lock.release()


def test_with_takes_the_lock_and_gives_it_back_even_when_the_block_raises(context):
    lock = context.Lock()
    with pytest.raises(ZeroDivisionError), lock:
        assert lock.acquire(False) is False
        1 / 0  # noqa: B018
    assert lock.acquire(False) is True
    lock.release()


def test_a_blocked_acquire_goes_on_when_the_holder_releases(context):
    lock, log = context.Lock(), context.Queue()
    lock.acquire()
    with running(context, (take_then_tell, lock, log)) as [process]:
        waiting(log, process)
        assert log.empty()
        lock.release()
        assert log.get(timeout=PATIENCE) == ("taken", "")
        assert ended(process) == [0]


def test_a_thread_that_waits_for_the_lock_does_not_stop_the_others():
    lock = mp.Lock()
    lock.acquire()
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(lock.acquire()), daemon=True)
    waiter.start()
    asleep(os.getpid(), waiter.native_id)
    lock.release()
    until(lambda: got == [True])
    lock.release()


# --- when the holder ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "exitcode", "words"),
    [
        ("killed", -9, "SIGKILL"),
        ("os._exit(9)", 9, "9"),
        ("sys.exit(3)", 3, "3"),
        ("exception", 1, "1"),
    ],
)
def test_the_next_acquire_is_told_once_that_the_holder_died(context, ending, exitcode, words):
    lock = context.Lock()
    with running(context, (take_and_end, lock, ending)) as [process]:
        assert ended(process) == [exitcode]
        pid, name = process.pid, process.name
    with pytest.raises(mp.OwnerDiedError) as caught:
        lock.acquire(timeout=PATIENCE)
    for word in (str(pid), name, words):
        assert word in str(caught.value)
    # That was the one warning; from now on it is a lock like any other.
    assert lock.acquire(timeout=PATIENCE) is True
    assert lock.acquire(False) is False
    lock.release()


@pytest.mark.parametrize("attempt", ["block=False", "timeout=0", "with"])
def test_every_way_to_take_the_lock_tells_that_the_holder_died(context, attempt):
    lock = context.Lock()
    with running(context, (take_and_end, lock, "killed")) as [process]:
        assert ended(process) == [-9]
    with pytest.raises(mp.OwnerDiedError):
        if attempt == "block=False":
            lock.acquire(False)
        elif attempt == "timeout=0":
            lock.acquire(timeout=0)
        else:
            with lock:
                pytest.fail("the block must not run")
    with lock:
        pass


def test_a_process_that_ends_well_leaves_the_lock_as_it_was(context):
    lock = context.Lock()
    with running(context, (take_and_end, lock, "clean")) as [process]:
        assert ended(process) == [0]
    assert lock.acquire(timeout=0.2) is False
    lock.release()
    assert lock.acquire(False) is True
    lock.release()


def test_a_waiter_is_told_within_a_second_when_the_holder_is_killed(context):
    lock, log = context.Lock(), context.Queue()
    with running(context, (hold, lock, log)) as [holder]:
        assert log.get(timeout=PATIENCE) == holder.pid
        with running(context, (take_then_tell, lock, log)) as [waiter]:
            waiting(log, waiter)
            holder.kill()  # and nobody joins it: the waiter has to find out by itself
            began = time.monotonic()
            kind, words = log.get(timeout=PATIENCE)
            assert kind == "OwnerDiedError"
            assert str(holder.pid) in words
            assert time.monotonic() - began < 5
            assert ended(waiter) == [0]


def test_a_waiter_is_told_within_ten_milliseconds_of_the_holders_death():
    """As the kernel tells it, not at the end of some interval. A busy machine may delay one round, not all."""

    def seconds_until_told() -> float:
        lock, log = mp.Lock(), mp.get_context("fork").Queue()
        with running(mp.get_context("fork"), (hold, lock, log)) as [holder]:
            assert log.get(timeout=PATIENCE) == holder.pid
            killed = []

            def kill() -> None:
                asleep(os.getpid())
                killed.append(time.monotonic())
                holder.kill()

            with in_thread(kill), pytest.raises(mp.OwnerDiedError):
                lock.acquire(timeout=PATIENCE)
            return time.monotonic() - killed[0]

    until(lambda: seconds_until_told() < 0.010)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_the_error_names_the_lock_that_has_a_name(context, kind):
    lock = getattr(context, kind)(name="the till")
    with running(context, (take_and_end, lock, "killed")) as [process]:
        assert ended(process) == [-9]
    with pytest.raises(mp.OwnerDiedError, match=r"last acquired the lock the till, .*SIGKILL"):
        lock.acquire(timeout=PATIENCE)


def test_only_one_of_several_waiters_is_told_and_the_others_get_the_lock(context):
    lock, log = context.Lock(), context.Queue()
    with running(context, (hold, lock, log)) as [holder]:
        assert log.get(timeout=PATIENCE) == holder.pid
        with running(context, *[(take_then_tell, lock, log)] * 3) as waiters:
            waiting(log, *waiters)
            holder.kill()
            kinds = sorted(log.get(timeout=PATIENCE)[0] for _ in waiters)
            assert kinds == ["OwnerDiedError", "taken", "taken"]
            assert ended(*waiters) == [0] * 3


def test_killing_a_waiter_neither_takes_nor_breaks_the_lock(context):
    lock, log = context.Lock(), context.Queue()
    lock.acquire()
    with running(context, *[(take_then_tell, lock, log)] * 2) as [first, second]:
        waiting(log, first, second)
        first.kill()
        assert ended(first) == [-9]
        lock.release()
        assert log.get(timeout=PATIENCE) == ("taken", "")
        assert ended(second) == [0]
    assert lock.acquire(timeout=PATIENCE) is True
    lock.release()


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_a_waiting_child_at_once_and_the_lock_stays_usable(context):
    lock, log = context.Lock(), context.Queue()
    lock.acquire()
    with running(context, (report_interrupt, lock, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        os.kill(process.pid, signal.SIGINT)
        began = time.monotonic()
        assert log.get(timeout=PATIENCE) == "interrupted"
        assert time.monotonic() - began < 5
        with pytest.raises(queue.Empty):
            log.get(timeout=0.2)
        lock.release()
        assert log.get(timeout=PATIENCE) == "taken"
        assert ended(process) == [0]


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_ctrl_c_interrupts_the_main_thread_in_acquire(timeout):
    lock = mp.Lock()
    lock.acquire()
    main = threading.get_native_id()

    def interrupt():
        asleep(os.getpid(), main)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lock.acquire(timeout=timeout)
    thread.join(PATIENCE)
    lock.release()
    assert lock.acquire(False) is True
    lock.release()
