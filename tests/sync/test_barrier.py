"""Barriers, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from threading import BrokenBarrierError

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, running, state, until
from waiting import come_to_wait, ctrl_c_at_rest, gone, in_thread, sleeping_thread, wait_and_tell

# --- what the child processes do --------------------------------------------------------------------------------------


def pass_often(barrier, rounds, log):
    """Tells the number of each round after having passed it."""
    for number in range(rounds):
        log.put((number, barrier.wait()))


def wait_again(barrier, log):
    """Tells "broken" when the barrier breaks, and then the outcome of another wait."""
    try:
        barrier.wait()
    except BrokenBarrierError:
        log.put("broken")
    log.put(type(barrier.wait()).__name__)


class Note:
    """An action: adds to a semaphore."""

    def __init__(self, semaphore):
        self.semaphore = semaphore

    def __call__(self):
        self.semaphore.release()


def fail():
    raise ZeroDivisionError


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Stay:
    """An action that takes until it is let go."""

    def __init__(self, entered, leave):
        self.entered, self.leave = entered, leave

    def __call__(self):
        self.entered.set()
        self.leave.wait(PATIENCE)


# --- what a barrier is ------------------------------------------------------------------------------------------------


def test_it_has_what_threads_barriers_document_and_is_none():
    barrier = mp.Barrier(2)
    assert not isinstance(barrier, threading.Barrier)
    documented = {name for name in vars(threading.Barrier) if not name.startswith("_")}
    assert documented <= set(dir(barrier))


def test_nobody_passes_before_all_are_there_round_after_round(context):
    barrier, log = context.Barrier(4), context.Queue()
    with running(context, *[(pass_often, barrier, 50, log)] * 3) as processes:
        for number in range(50):
            mine = barrier.wait(PATIENCE)
            others = [log.get(timeout=PATIENCE) for _ in processes]
            assert {n for n, _ in others} == {number}
            assert sorted([mine, *(index for _, index in others)]) == [0, 1, 2, 3]
        assert ended(*processes) == [0] * 3
    assert barrier.n_waiting == 0
    assert barrier.broken is False


def test_it_tells_its_parties_and_how_many_wait(context):
    barrier, log = context.Barrier(3), context.Queue()
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    with running(context, (wait_and_tell, barrier, log)) as [process], sleeping_thread(barrier.wait) as notes:
        come_to_wait(log, process)
        assert barrier.n_waiting == 2
        assert repr(barrier) == f"<procession.synchronize.Barrier at {id(barrier):#x}: waiters=2/3>"
        assert barrier.wait() == 2
        assert {log.get(timeout=PATIENCE)} <= {0, 1}
        assert ended(process) == [0]
    assert notes[0] in (0, 1)
    assert barrier.n_waiting == 0


def test_one_party_never_waits():
    barrier = mp.Barrier(1)
    for _ in range(3):
        assert barrier.wait(0) == 0


@pytest.mark.parametrize("parties", [0, -1])
def test_there_is_at_least_one_party(parties):
    with pytest.raises(ValueError, match="part"):
        mp.Barrier(parties)


def test_the_action_runs_once_in_each_round_before_anybody_goes_on(context):
    count, log = context.Semaphore(0), context.Queue()
    barrier = context.Barrier(3, Note(count))
    with running(context, *[(pass_often, barrier, 20, log)] * 2) as processes:
        for number in range(20):
            barrier.wait(PATIENCE)
            assert count.get_value() == number + 1
            for _ in processes:
                log.get(timeout=PATIENCE)
        assert ended(*processes) == [0, 0]
    assert count.get_value() == 20


def test_who_comes_during_the_action_belongs_to_the_next_round():
    entered, leave = mp.Event(), mp.Event()
    barrier = mp.Barrier(2, Stay(entered, leave))
    with in_thread(barrier.wait) as first, in_thread(barrier.wait) as second:
        assert entered.wait(PATIENCE)
        with sleeping_thread(barrier.wait) as third, contextlib.ExitStack() as end:
            end.callback(barrier.abort)
            leave.set()
            until(lambda: first and second)
            assert sorted(first + second) == [0, 1]
            until(lambda: barrier.n_waiting == 1)
            assert third == []
    assert type(third[0]) is BrokenBarrierError


# --- broken -----------------------------------------------------------------------------------------------------------


def test_abort_breaks_it_for_all_who_wait_and_come_until_reset(context):
    barrier, log = context.Barrier(4), context.Queue()
    with running(context, *[(wait_again, barrier, log)] * 2) as processes, sleeping_thread(barrier.wait) as notes:
        until(lambda: barrier.n_waiting == 3)
        barrier.reset()
        assert [log.get(timeout=PATIENCE) for _ in processes] == ["broken"] * 2
        until(lambda: barrier.n_waiting == 2)
        assert barrier.broken is False
        with in_thread(barrier.wait):
            assert type(barrier.wait(PATIENCE)) is int
        assert [log.get(timeout=PATIENCE) for _ in processes] == ["int"] * 2
        assert ended(*processes) == [0, 0]
    assert type(notes[0]) is BrokenBarrierError

    with running(context, *[(wait_and_tell, barrier, log)] * 2) as processes:
        come_to_wait(log, *processes)
        barrier.abort()
        assert [log.get(timeout=PATIENCE) for _ in processes] == ["BrokenBarrierError"] * 2
        assert ended(*processes) == [0, 0]
    assert barrier.broken is True
    assert barrier.n_waiting == 0
    assert repr(barrier) == f"<procession.synchronize.Barrier at {id(barrier):#x}: broken>"
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert barrier.broken is False


def test_a_wait_that_takes_too_long_breaks_it_for_all(context):
    barrier, log = context.Barrier(3), context.Queue()
    with running(context, (wait_and_tell, barrier, log)) as [process]:
        come_to_wait(log, process)
        began = time.monotonic()
        with pytest.raises(BrokenBarrierError):
            barrier.wait(0.2)
        assert 0.2 <= time.monotonic() - began < 5
        assert log.get(timeout=PATIENCE) == "BrokenBarrierError"
        assert ended(process) == [0]
    assert barrier.broken is True


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_of_zero_or_less_does_not_wait(timeout):
    barrier = mp.Barrier(2)
    with pytest.raises(BrokenBarrierError):
        barrier.wait(timeout)
    assert barrier.broken is True


def test_its_own_timeout_is_for_waits_that_give_none(context):
    barrier = context.Barrier(2, timeout=0.2)
    began = time.monotonic()
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    assert 0.2 <= time.monotonic() - began < 5
    barrier.reset()
    with in_thread(lambda: barrier.wait(PATIENCE)) as notes:
        until(lambda: barrier.n_waiting == 1)
        assert barrier.wait() == 1
    assert notes == [0]


def test_an_action_that_raises_breaks_it_and_raises_in_the_one_that_ran_it(context):
    barrier, log = context.Barrier(2, fail), context.Queue()
    with running(context, (wait_and_tell, barrier, log)) as [process]:
        come_to_wait(log, process)
        with pytest.raises(ZeroDivisionError):
            barrier.wait()
        assert log.get(timeout=PATIENCE) == "BrokenBarrierError"
        assert ended(process) == [0]
    assert barrier.broken is True


def test_an_action_during_which_it_is_broken_ends_in_a_broken_barrier():
    entered, leave = mp.Event(), mp.Event()
    barrier = mp.Barrier(1, Stay(entered, leave))
    with in_thread(barrier.wait) as notes:
        assert entered.wait(PATIENCE)
        barrier.abort()
        leave.set()
    assert type(notes[0]) is BrokenBarrierError
    assert barrier.broken is True


def test_who_comes_during_an_action_that_takes_too_long_breaks_it():
    entered, leave = mp.Event(), mp.Event()
    barrier = mp.Barrier(1, Stay(entered, leave))
    with in_thread(barrier.wait) as notes:
        assert entered.wait(PATIENCE)
        with pytest.raises(BrokenBarrierError):
            barrier.wait(0.1)
        leave.set()
    assert type(notes[0]) is BrokenBarrierError


# --- death ------------------------------------------------------------------------------------------------------------


def test_after_a_waiter_was_killed_anybody_can_abort_and_reset_it(context):
    barrier, log = context.Barrier(4), context.Queue()
    with running(context, *[(wait_and_tell, barrier, log)] * 2) as [first, second]:
        come_to_wait(log, first, second)
        gone(first)
        began = time.monotonic()
        barrier.abort()
        assert time.monotonic() - began < 5
        assert log.get(timeout=PATIENCE) == "BrokenBarrierError"
        assert ended(second) == [0]
    barrier.reset()
    assert barrier.n_waiting == 0
    with running(context, *[(wait_and_tell, barrier, log)] * 3) as processes:
        assert barrier.wait(PATIENCE) in range(4)
        assert ended(*processes) == [0] * 3


def test_a_party_that_is_missing_is_noticed_by_the_timeout_of_those_who_wait(context):
    barrier, log = context.Barrier(3), context.Queue()
    with running(context, (wait_and_tell, barrier, log, 3.0), (wait_and_tell, barrier, log)) as [patient, other]:
        come_to_wait(log, patient, other)
        gone(other)
        assert log.get(timeout=PATIENCE) == "BrokenBarrierError"
        assert ended(patient) == [0]


def test_one_that_is_killed_while_it_waits_stays_counted_in_its_round(context):
    barrier, log = context.Barrier(3), context.Queue()
    with running(context, *[(wait_and_tell, barrier, log)] * 2) as [first, second]:
        come_to_wait(log, first, second)
        gone(first)
        assert barrier.wait(PATIENCE) == 2
        assert log.get(timeout=PATIENCE) in (0, 1)
        assert ended(second) == [0]
    assert barrier.n_waiting == 0


def test_one_that_is_killed_during_the_action_breaks_the_barrier(context):
    barrier, log = context.Barrier(2, die), context.Queue()
    with running(context, (wait_and_tell, barrier, log)) as [first]:
        come_to_wait(log, first)
        with running(context, (wait_and_tell, barrier, log)) as [second]:
            until(lambda: state(second.pid) in "ZX")  # and nobody has joined it
            assert log.get(timeout=PATIENCE) == "ready"
            assert log.get(timeout=PATIENCE) == "BrokenBarrierError"
            assert ended(first, second) == [0, -9]
    assert barrier.broken is True


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_ctrl_c_interrupts_wait_and_counts_this_party_out(timeout):
    barrier = mp.Barrier(2)
    with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
        barrier.wait(timeout)
    assert barrier.n_waiting == 0
    assert barrier.broken is False
    with in_thread(lambda: barrier.wait(PATIENCE)) as notes:
        assert barrier.wait(PATIENCE) in (0, 1)
    assert notes[0] in (0, 1)


def test_ctrl_c_in_a_child_leaves_the_others_waiting(context):
    barrier, log = context.Barrier(3), context.Queue()
    with running(context, *[(wait_and_tell, barrier, log)] * 2) as [first, second]:
        come_to_wait(log, first, second)
        os.kill(first.pid, signal.SIGINT)
        assert log.get(timeout=PATIENCE) == "KeyboardInterrupt"
        assert ended(first) == [0]
        asleep(second.pid)
        assert barrier.n_waiting == 1
        with in_thread(lambda: barrier.wait(PATIENCE)):
            barrier.wait(PATIENCE)
        assert log.get(timeout=PATIENCE) in range(3)
        assert ended(second) == [0]
