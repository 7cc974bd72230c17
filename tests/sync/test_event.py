"""Events, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import time

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running
from waiting import come_to_wait, ctrl_c_at_rest, gone, in_thread, sleeping_thread, wait_and_tell

# --- what the child processes do --------------------------------------------------------------------------------------


def set_it(event):
    event.set()


def answer(there, back, rounds):
    for _ in range(rounds):
        there.wait()
        there.clear()
        back.set()


# --- what an event is -------------------------------------------------------------------------------------------------


def test_it_is_set_until_it_is_cleared(context):
    event = context.Event()
    assert event.is_set() is False
    assert event.set() is None
    assert event.is_set() is True
    event.set()
    assert event.wait() is True
    assert event.wait(0) is True
    assert event.clear() is None
    assert event.is_set() is False
    event.clear()
    assert event.wait(0) is False


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.0])
def test_a_timeout_of_zero_or_less_does_not_wait(timeout):
    event = mp.Event()
    assert event.wait(timeout) is False
    event.set()
    assert event.wait(timeout=timeout) is True


def test_a_timeout_is_waited_out_and_no_longer(context):
    event = context.Event()
    began = time.monotonic()
    assert event.wait(0.2) is False
    assert 0.2 <= time.monotonic() - began < 5


def test_set_lets_all_go_who_wait_in_processes_and_threads(context):
    event, log = context.Event(), context.Queue()
    with running(context, *[(wait_and_tell, event, log)] * 3) as processes, sleeping_thread(event.wait) as notes:
        come_to_wait(log, *processes)
        assert log.empty()
        event.set()
        assert [log.get(timeout=PATIENCE) for _ in processes] == [True] * 3
        assert ended(*processes) == [0] * 3
    assert notes == [True]


def test_set_lets_all_go_even_if_clear_follows_at_once(context):
    event, log = context.Event(), context.Queue()
    for _ in range(5):
        with running(context, *[(wait_and_tell, event, log)] * 2) as processes:
            come_to_wait(log, *processes)
            event.set()
            event.clear()
            assert [log.get(timeout=PATIENCE) for _ in processes] == [True] * 2
            assert ended(*processes) == [0] * 2
    assert event.wait(0) is False


def test_another_process_may_set_it(context):
    event = context.Event()
    with running(context, (set_it, event)) as [process]:
        assert event.wait(PATIENCE) is True
        assert ended(process) == [0]


def test_two_events_pass_a_turn_to_and_fro(context):
    there, back = context.Event(), context.Event()
    with running(context, (answer, there, back, 300)) as [process]:
        for _ in range(300):
            there.set()
            assert back.wait(PATIENCE) is True
            back.clear()
        assert ended(process) == [0]


def test_its_repr_tells_whether_it_is_set(context):
    event = context.Event()
    assert repr(event) == f"<Event at {id(event):#x} unset>"
    event.set()
    assert repr(event) == f"<Event at {id(event):#x} set>"
    event = context.Event(name="go")
    assert repr(event) == f"<Event at {id(event):#x} unset, name='go'>"


# --- death ------------------------------------------------------------------------------------------------------------


def test_set_reaches_the_others_and_never_hangs_after_waiters_were_killed(context):
    event, log = context.Event(), context.Queue()
    with running(context, *[(wait_and_tell, event, log)] * 3) as [first, second, third]:
        come_to_wait(log, first, second, third)
        gone(first)
        second.kill()  # and not waited for
        began = time.monotonic()
        event.set()
        assert time.monotonic() - began < 5
        answers = [log.get(timeout=PATIENCE)]
        assert ended(third) == [0]
        assert answers == [True]
    event.clear()
    assert event.wait(0) is False
    event.set()
    assert event.wait(0) is True


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_ctrl_c_interrupts_wait_and_the_event_stays_usable(timeout):
    event = mp.Event()
    with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
        event.wait(timeout)
    with in_thread(event.wait) as notes:
        event.set()
    assert notes == [True]
