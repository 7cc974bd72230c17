"""Conditions, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import os
import queue
import signal
import time

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, running, until
from waiting import come_to_wait, ctrl_c_at_rest, gone, in_thread, sleeping_thread, wait_and_tell, wait_on


@pytest.fixture(params=["RLock", "Lock"])
def lock_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


# --- what the child processes do --------------------------------------------------------------------------------------


def wait_held_thrice(condition, log):
    with condition, condition, condition:
        log.put("ready")
        log.put(condition.wait())
        log.put(condition._lock._semlock._count())


def call_for(condition, numbers, log):
    """Waits until there is a number, takes it and tells it, until it is None."""
    number = 0
    while number is not None:
        with condition:
            condition.wait_for(lambda: not numbers.empty())
            number = numbers.get()
        log.put(number)


def notify_it(condition):
    with condition:
        condition.notify()


def hold(lock, log):
    with lock:
        log.put("held")
        while True:
            signal.pause()


def lock_and_die(condition, log):
    """Calls one, and dies with the lock."""
    condition.acquire()
    condition.notify()
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted_then_hold(condition, log):
    """Reports what comes of a wait, and whether the lock is held afterwards."""
    with condition:
        log.put("ready")
        try:
            answer = condition.wait()
        except BaseException as error:
            answer = type(error).__name__
        log.put((answer, condition._lock._semlock._is_mine()))


def ping(condition, turns, me, rounds):
    for _ in range(rounds):
        with condition:
            condition.wait_for(lambda: turns.get_value() % 2 == me)
            turns.release()
            condition.notify()


# --- what a condition is ----------------------------------------------------------------------------------------------


def test_notify_calls_one_and_notify_all_calls_all_in_processes_and_threads(context, lock_kind):
    condition, log = context.Condition(getattr(context, lock_kind)()), context.Queue()
    with running(context, *[(wait_and_tell, condition, log)] * 3) as processes:
        come_to_wait(log, *processes)
        with sleeping_thread(lambda: wait_on(condition)) as notes:
            with condition:
                condition.notify()
            assert log.get(timeout=PATIENCE) is True
            with pytest.raises(queue.Empty):
                log.get(timeout=0.2)
            assert notes == []
            with condition:
                condition.notify_all()
            assert [log.get(timeout=PATIENCE) for _ in range(2)] == [True] * 2
        assert notes == [True]
        assert ended(*processes) == [0] * 3


def test_notify_n_calls_as_many_or_all_there_are(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, *[(wait_and_tell, condition, log)] * 3) as processes:
        come_to_wait(log, *processes)
        with condition:
            condition.notify(0)
            condition.notify(n=2)
        assert [log.get(timeout=PATIENCE) for _ in range(2)] == [True] * 2
        with pytest.raises(queue.Empty):
            log.get(timeout=0.2)
        with condition:
            condition.notify(5)
        assert log.get(timeout=PATIENCE) is True
        assert ended(*processes) == [0] * 3
    with condition:
        condition.notify(2)
        assert condition.wait(0) is False, "a call waits for nobody"


def test_they_are_called_in_the_order_in_which_they_came():
    condition, order = mp.Condition(), []

    def wait_as(number):
        with condition:
            condition.wait()
            order.append(number)

    with (
        sleeping_thread(lambda: wait_as(0)),
        sleeping_thread(lambda: wait_as(1)),
        sleeping_thread(lambda: wait_as(2)),
    ):
        for n in range(3):
            with condition:
                condition.notify()
            until(lambda: len(order) == n + 1)  # noqa: B023
    assert order == [0, 1, 2]


def test_wait_says_whether_it_was_called_in_time(context, lock_kind):
    condition = context.Condition(getattr(context, lock_kind)())
    with condition:
        for timeout in (0, -1, 0.0, -0.5):
            assert condition.wait(timeout) is False
        began = time.monotonic()
        assert condition.wait(0.2) is False
        assert 0.2 <= time.monotonic() - began < 5
        with running(context, (notify_it, condition)) as [process]:
            assert condition.wait(timeout=PATIENCE) is True
            assert ended(process) == [0]
        assert condition._waiting() == 0


def test_the_lock_has_to_be_held_and_is_held_afterwards(context, lock_kind):
    condition = context.Condition(getattr(context, lock_kind)())
    for call in (condition.wait, condition.notify, condition.notify_all, lambda: condition.wait_for(lambda: False)):
        with pytest.raises(AssertionError):
            call()
    condition.acquire()
    with in_thread(condition.notify) as notes:
        pass
    assert type(notes[0]) is AssertionError, "held by another thread"
    with in_thread(lambda: condition.acquire(timeout=0)) as notes:
        pass
    assert notes == [False]
    condition.wait(0)
    with in_thread(lambda: condition.acquire(False)) as notes:
        pass
    assert notes == [False]
    assert condition.locked() is True
    condition.release()
    assert condition.locked() is False


def test_a_lock_that_is_held_several_times_is_released_by_wait_and_then_held_as_often(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, (wait_held_thrice, condition, log)) as [process]:
        come_to_wait(log, process)
        with condition:
            condition.notify()
        assert log.get(timeout=PATIENCE) is True
        assert log.get(timeout=PATIENCE) == 3
        assert ended(process) == [0]
    assert condition.locked() is False


def test_wait_for_waits_until_what_it_waits_for_is_true(context):
    condition, numbers, log = context.Condition(), context.Queue(), context.Queue()
    with running(context, (call_for, condition, numbers, log)) as [process]:
        for number in (1, 2, 3, None):
            with condition:
                condition.notify_all()  # for nothing
            with condition:
                numbers.put(number)
                condition.notify_all()
            assert log.get(timeout=PATIENCE) == number
        assert ended(process) == [0]


def test_wait_for_returns_what_was_returned_and_gives_up_after_the_timeout():
    condition = mp.Condition()
    with condition:
        assert condition.wait_for(lambda: "something", 0) == "something"
        assert condition.wait_for(lambda: [], 0) == []
        asked = []
        began = time.monotonic()
        assert condition.wait_for(lambda: asked.append(1), timeout=0.2) is None
        assert 0.2 <= time.monotonic() - began < 5
        assert len(asked) == 2


def test_the_turn_passes_to_and_fro_between_two_processes(context, lock_kind):
    condition, turns = context.Condition(getattr(context, lock_kind)()), context.Semaphore(0)
    with running(context, *[(ping, condition, turns, me, 200) for me in (0, 1)]) as processes:
        assert ended(*processes) == [0, 0]
    assert turns.get_value() == 400


def test_conditions_may_share_a_lock():
    lock = mp.Lock()
    first, second = mp.Condition(lock), mp.Condition(lock)
    with first:
        second.notify()
        assert second.wait(0) is False
        assert not second.acquire(False)


@pytest.mark.parametrize("kind", ["Semaphore", "Event", "Queue"])
def test_only_locks_can_be_the_lock_of_a_condition(kind):
    with pytest.raises(TypeError, match="Lock"):
        mp.Condition(getattr(mp, kind)())


def test_its_repr_tells_its_lock_and_how_many_wait():
    condition = mp.Condition()
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
    with sleeping_thread(lambda: wait_on(condition)), condition:
        assert repr(condition) == "<Condition(<RLock(MainProcess, 1)>, 1)>"
        assert condition._sleeping_count.get_value() - condition._woken_count.get_value() == 1
        assert condition._wait_semaphore.get_value() == 0
        condition.notify_all()
    assert condition._sleeping_count.get_value() == 0
    assert repr(mp.Condition(mp.Lock(), name="news")) == "<Condition(<Lock(owner=None)>, 0, name='news')>"


# --- death ------------------------------------------------------------------------------------------------------------


def test_notify_passes_over_a_waiter_that_was_killed(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, (wait_and_tell, condition, log)) as [first]:
        come_to_wait(log, first)
        with running(context, (wait_and_tell, condition, log)) as [second]:
            come_to_wait(log, second)
            gone(first)
            with condition:
                condition.notify(1)
            assert log.get(timeout=PATIENCE) is True
            assert ended(second) == [0]


def test_a_call_that_went_to_a_process_just_killed_goes_on_to_the_next(context):
    for _ in range(5):
        condition, log = context.Condition(), context.Queue()
        with running(context, (wait_and_tell, condition, log)) as [first]:
            come_to_wait(log, first)
            with running(context, (wait_and_tell, condition, log)) as [second]:
                come_to_wait(log, second)
                with condition:
                    first.kill()  # it may be called, but it cannot return from wait() without the lock
                    condition.notify(1)
                    first.join(PATIENCE)
                assert log.get(timeout=PATIENCE) is True
                assert ended(second) == [0]


def test_a_waiter_that_was_called_and_killed_before_it_had_the_lock_takes_no_call_along(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, (wait_and_tell, condition, log)) as [first]:
        come_to_wait(log, first)
        with running(context, (wait_and_tell, condition, log)) as [second]:
            come_to_wait(log, second)
            with condition:
                condition.notify(1)
                asleep(first.pid)  # awake, and now waiting for the lock
                gone(first)
            assert log.get(timeout=PATIENCE) is True
            assert ended(second) == [0]


def test_notify_all_never_hangs_and_reaches_the_living(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, *[(wait_and_tell, condition, log)] * 4) as [first, second, *others]:
        come_to_wait(log, first, second, *others)
        gone(first)
        second.kill()  # and not waited for
        began = time.monotonic()
        with condition:
            condition.notify_all()
        assert time.monotonic() - began < 5
        assert ended(*others) == [0, 0]
        assert [log.get(timeout=PATIENCE) for _ in others] == [True, True]
    with condition:
        assert condition._waiting() == 0
        assert condition.wait(0) is False


@pytest.mark.parametrize("kind", ["RLock", "Lock"])
def test_when_the_caller_dies_with_the_lock_the_called_one_is_told_and_holds_the_lock(context, kind):
    condition, log = context.Condition(getattr(context, kind)()), context.Queue()
    with running(context, (interrupted_then_hold, condition, log)) as [waiter]:
        come_to_wait(log, waiter)
        with running(context, (lock_and_die, condition, log)) as [caller]:
            assert log.get(timeout=PATIENCE) == ("OwnerDiedError", True)
            assert ended(waiter, caller) == [0, -9]
    assert condition.acquire(timeout=PATIENCE) is True
    condition.release()


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_wait_in_a_child_at_once_with_the_lock_held_and_takes_no_call_along(context, lock_kind):
    condition, log = context.Condition(getattr(context, lock_kind)()), context.Queue()
    with running(context, (interrupted_then_hold, condition, log)) as [first]:
        come_to_wait(log, first)
        with running(context, (wait_and_tell, condition, log)) as [second]:
            come_to_wait(log, second)
            os.kill(first.pid, signal.SIGINT)
            assert log.get(timeout=PATIENCE) == ("KeyboardInterrupt", True)
            assert ended(first) == [0]
            with condition:
                condition.notify()
            assert log.get(timeout=PATIENCE) is True
            assert ended(second) == [0]


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_ctrl_c_interrupts_wait_in_the_main_thread_which_then_holds_the_lock(timeout, lock_kind):
    condition = mp.Condition(getattr(mp, lock_kind)())
    with condition:
        with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
            condition.wait(timeout)
        with in_thread(lambda: condition.acquire(False)) as notes:
            pass
        assert notes == [False]
    assert condition.locked() is False
    assert condition._waiting() == 0


def test_an_interrupt_while_the_lock_is_taken_again_is_raised_with_the_lock_held_and_hands_the_call_on(context):
    condition, log = context.Condition(), context.Queue()
    with running(context, (interrupted_then_hold, condition, log)) as [first]:
        come_to_wait(log, first)
        with running(context, (wait_and_tell, condition, log)) as [second]:
            come_to_wait(log, second)
            with condition:
                condition.notify(1)
                asleep(first.pid)  # called, and now waiting for the lock
                os.kill(first.pid, signal.SIGINT)
                asleep(first.pid)
                assert log.empty()
            answers = [log.get(timeout=PATIENCE), log.get(timeout=PATIENCE)]
            assert ("KeyboardInterrupt", True) in answers
            assert True in answers
            assert ended(first, second) == [0, 0]
