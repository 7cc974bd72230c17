"""Semaphores, bounded and not, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import os
import time

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, until
from waiting import come_to_wait, ctrl_c_at_rest, gone, in_thread, sleeping_thread, wait_and_tell

# --- what the child processes do --------------------------------------------------------------------------------------


def enter_often(semaphore, folder, times, log):
    """Notes the greatest number of those who were inside together."""
    most = 0
    mine = folder / str(os.getpid())
    for _ in range(times):
        with semaphore:
            mine.touch()
            most = max(most, len(list(folder.iterdir())))
            mine.unlink()
    log.put(most)


def release_some(semaphore, n):
    semaphore.release(n)


def acquire_and_end(semaphore):
    semaphore.acquire()


# --- what a semaphore is ----------------------------------------------------------------------------------------------


def test_only_so_many_processes_are_inside_together(context, tmp_path):
    semaphore, log = context.Semaphore(2), context.Queue()
    with running(context, *[(enter_often, semaphore, tmp_path, 100, log)] * 4) as processes:
        assert ended(*processes) == [0] * 4
    assert max(log.get(timeout=PATIENCE) for _ in processes) <= 2
    assert semaphore.get_value() == 2


def test_acquire_takes_one_and_release_gives_one_back(context):
    semaphore = context.Semaphore(2)
    assert semaphore.acquire() is True
    assert semaphore.get_value() == 1
    assert semaphore.acquire(True, None) is True
    assert semaphore.acquire(False) is False
    assert semaphore.acquire(False, 5) is False
    assert semaphore.get_value() == 0
    assert semaphore.locked() is True
    assert semaphore.release() is None
    assert semaphore.locked() is False
    assert semaphore.get_value() == 1


def test_the_first_value_is_1_unless_it_is_given(context):
    assert context.Semaphore().get_value() == 1
    assert context.BoundedSemaphore().get_value() == 1
    assert context.Semaphore(0).get_value() == 0
    assert context.Semaphore(value=7).get_value() == 7
    assert context.Semaphore(2**31 - 1).get_value() == 2**31 - 1


@pytest.mark.parametrize("value", [-1, 2**31, -(2**70), 2**70])
def test_a_first_value_that_no_semaphore_can_have_is_refused(value):
    for kind in (mp.Semaphore, mp.BoundedSemaphore):
        with pytest.raises(ValueError, match="value"):
            kind(value)


def test_release_may_give_several_back_at_once(context):
    semaphore, log = context.Semaphore(0), context.Queue()
    semaphore.release(3)
    assert semaphore.get_value() == 3
    semaphore.release(n=2)
    assert semaphore.get_value() == 5
    for n in (0, -1):
        with pytest.raises(ValueError):
            semaphore.release(n)
    assert semaphore.get_value() == 5
    for _ in range(5):
        semaphore.acquire()
    with running(context, *[(wait_and_tell, semaphore, log)] * 3) as processes:
        come_to_wait(log, *processes)
        semaphore.release(3)
        assert [log.get(timeout=PATIENCE) for _ in processes] == [True] * 3
        assert ended(*processes) == [0] * 3
    assert semaphore.get_value() == 0


def test_a_semaphore_may_be_released_beyond_its_first_value_and_a_bounded_one_not(context):
    semaphore, bounded = context.Semaphore(2), context.BoundedSemaphore(2)
    semaphore.release()
    assert semaphore.get_value() == 3
    bounded.acquire()
    bounded.release()
    for excess in ((), (1,), (5,)):
        with pytest.raises(ValueError, match="semaphore or lock released too many times"):
            bounded.release(*excess)
    assert bounded.get_value() == 2
    bounded.acquire()
    with pytest.raises(ValueError):
        bounded.release(2)
    assert bounded.get_value() == 1


def test_a_semaphore_cannot_be_released_beyond_the_greatest_value():
    semaphore = mp.Semaphore(2**31 - 1)
    with pytest.raises(ValueError):
        semaphore.release()
    assert semaphore.get_value() == 2**31 - 1


@pytest.mark.parametrize("timeout", [0, -1, -0.5, 0.0])
def test_a_timeout_of_zero_or_less_does_not_wait(timeout):
    semaphore = mp.Semaphore(1)
    assert semaphore.acquire(True, timeout) is True
    assert semaphore.acquire(True, timeout) is False


def test_a_timeout_is_waited_out_and_no_longer(context):
    semaphore = context.Semaphore(0)
    began = time.monotonic()
    assert semaphore.acquire(timeout=0.2) is False
    assert 0.2 <= time.monotonic() - began < 5


def test_with_takes_one_and_gives_it_back_even_when_the_block_raises():
    semaphore = mp.BoundedSemaphore(1)
    with pytest.raises(ZeroDivisionError), semaphore as entered:
        assert entered is True
        assert semaphore.get_value() == 0
        1 / 0  # noqa: B018
    assert semaphore.get_value() == 1


def test_a_blocked_acquire_goes_on_when_another_process_releases(context):
    semaphore = context.Semaphore(0)
    with running(context, (release_some, semaphore, 2)) as [process]:
        assert semaphore.acquire(timeout=PATIENCE) is True
        assert ended(process) == [0]
    assert semaphore.get_value() == 1


def test_a_thread_that_waits_does_not_stop_the_others():
    semaphore = mp.Semaphore(0)
    with sleeping_thread(semaphore.acquire) as notes:
        assert notes == []
        semaphore.release()
    assert notes == [True]


def test_its_repr_tells_its_value(context):
    assert repr(context.Semaphore(3)) == "<Semaphore(value=3)>"
    bounded = context.BoundedSemaphore(2)
    bounded.acquire()
    assert repr(bounded) == "<BoundedSemaphore(value=1, maxvalue=2)>"
    assert repr(context.Semaphore(3, name="seats")) == "<Semaphore(value=3, name='seats')>"
    assert repr(context.BoundedSemaphore(1, name="seats")) == "<BoundedSemaphore(value=1, maxvalue=1, name='seats')>"


# --- death ------------------------------------------------------------------------------------------------------------


def test_a_killed_waiter_takes_no_release_along(context):
    semaphore, log = context.Semaphore(0), context.Queue()
    with running(context, *[(wait_and_tell, semaphore, log)] * 3) as [first, second, third]:
        come_to_wait(log, first, second, third)
        gone(first)
        semaphore.release()
        semaphore.release()
        assert log.get(timeout=PATIENCE) is True
        assert log.get(timeout=PATIENCE) is True
        assert ended(second, third) == [0, 0]
    assert semaphore.get_value() == 0


def test_a_waiter_that_is_killed_in_the_moment_of_the_release_takes_no_wake_up_along(context):
    for _ in range(5):
        semaphore, log = context.Semaphore(0), context.Queue()
        with running(context, *[(wait_and_tell, semaphore, log)] * 2) as [first, second]:
            come_to_wait(log, first, second)
            semaphore.release()
            first.kill()  # or it has got what was released, and ended
            first.join(PATIENCE)
            # Either it had taken what was released, or the other one takes it; it must not lie there.
            until(lambda: semaphore.get_value() == 0)  # noqa: B023
            semaphore.release()
            assert ended(second) == [0]


def test_what_a_dead_process_has_acquired_stays_acquired(context):
    semaphore = context.Semaphore(2)
    with running(context, (acquire_and_end, semaphore)) as [process]:
        assert ended(process) == [0]
    assert semaphore.get_value() == 1


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_acquire_and_takes_nothing():
    semaphore = mp.Semaphore(0)
    with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
        semaphore.acquire()
    semaphore.release()
    assert semaphore.get_value() == 1
    with in_thread(semaphore.acquire) as notes:
        pass
    assert notes == [True]
