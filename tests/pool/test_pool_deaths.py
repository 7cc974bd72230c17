"""What becomes of tasks whose workers die, take too long, take too much, or never come up."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

import procession as mp
from deadlines import PATIENCE, state, until

# --- what workers do --------------------------------------------------------------------------------------------------


def square(x):
    return x * x


def rest(seconds, value=None):
    time.sleep(seconds)
    return value


def pid(_=None):
    return os.getpid()


def killed(_=None):
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(_=None):
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    ctypes.string_at(0)


def leave(_=None):
    os._exit(5)


def say_goodbye(_=None):
    sys.exit(7)


class KillsWhenUnpickled:
    def __reduce__(self):
        return killed, ()


class KillsWhenPickled:
    def __reduce__(self):
        killed()


def take(_):
    return None


def killed_at_three(x):
    if x == 3:
        killed()
    return x


def killed_twice(path):
    """Kills its worker until the file has two marks."""
    with open(path, "a+") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        killed()
    return os.path.getsize(path)


def hog(megabytes):
    held = bytearray(megabytes << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)


def fail_to_begin():
    raise ZeroDivisionError("never ready")


def die_at_the_beginning():
    os._exit(9)


# --- deaths -----------------------------------------------------------------------------------------------------------

DEATHS = [
    (killed, -9, "SIGKILL"),
    (segfault, -11, "SIGSEGV"),
    (leave, 5, "exit code 5"),
    (say_goodbye, 7, "exit code 7"),
]


@pytest.mark.parametrize(("call", "code", "words"), DEATHS, ids=[call.__name__ for call, _, _ in DEATHS])
def test_a_worker_that_dies_fails_exactly_its_own_task(context, call, code, words):
    with context.Pool(2) as pool:
        others = [pool.apply_async(square, (n,)) for n in range(10)]
        fatal = pool.apply_async(call)
        others += [pool.apply_async(square, (n,)) for n in range(10)]
        with pytest.raises(mp.WorkerDiedError, match=words) as caught:
            fatal.get(PATIENCE)
        error = caught.value
        assert (error.exitcode, error.function, error.task, error.deaths) == (code, call.__name__, None, 1)
        assert error.pid > 0 and call.__name__ in str(error)
        assert [other.get(PATIENCE) for other in others] == [n * n for n in range(10)] * 2
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.pid, again.exitcode) == (str(error), error.pid, error.exitcode)


def test_the_error_names_the_item_at_which_the_worker_died():
    with mp.Pool(2) as pool:
        with pytest.raises(mp.WorkerDiedError, match=r"task 3 \(killed_at_three\)") as caught:
            pool.map(killed_at_three, range(8), 1)
        assert caught.value.task == 3
        with pytest.raises(mp.WorkerDiedError) as caught:
            pool.map(killed_at_three, range(2, 10), 8)
        assert caught.value.task == 1
        values = pool.imap(killed_at_three, range(6))
        assert [next(values) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(mp.WorkerDiedError):
            next(values)
        assert list(values) == [4, 5]


def test_a_task_that_kills_while_it_is_unpickled_or_its_result_pickled_fails_alone(context):
    with context.Pool(1) as pool:
        # sent as a pickle, so that it kills nobody here
        fatal = pool.apply_async(pickle.loads, (b"\x80\x04cprocession_fatal\nx\n.",))
        with pytest.raises(ModuleNotFoundError):
            fatal.get(PATIENCE)
        for call, arguments in [(take, (KillsWhenUnpickled(),)), (KillsWhenPickled, ())]:
            with pytest.raises(mp.WorkerDiedError, match="SIGKILL"):
                pool.apply(call, arguments)
        assert pool.apply(square, (4,)) == 16


def test_an_idle_worker_that_dies_is_replaced_and_nobody_notices(context):
    with context.Pool(2) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        before = {process.pid for process in pool._pool}
        for process in list(pool._pool):
            os.kill(process.pid, signal.SIGKILL)
        assert pool.map(square, range(40), 1) == [x * x for x in range(40)]
        until(lambda: not before & {process.pid for process in pool._pool})
        until(lambda: [row.restarts for row in pool.statistics()] == [1, 1])


def test_a_worker_that_ends_with_its_pool_is_not_replaced(context):
    pool = context.Pool(2)
    try:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        pool.close()
        pool.join()
        assert [row.restarts for row in pool.statistics()] == [0, 0]
    finally:
        pool.terminate()


def test_a_worker_that_is_replaced_after_its_number_of_tasks_counts_as_replaced(context):
    with context.Pool(1, maxtasksperchild=1) as pool:
        assert [pool.apply(square, (number,)) for number in range(3)] == [0, 1, 4]
        until(lambda: pool.statistics()[0].restarts == 3)


def test_a_task_is_run_again_as_often_as_it_may(context, tmp_path):
    with context.Pool(2, retries=2) as pool:
        assert pool.apply(killed_twice, (tmp_path / "one",)) == 3
        assert pool.map(killed_twice, [tmp_path / "two", tmp_path / "three"], 1) == [3, 3]
        with pytest.raises(mp.WorkerDiedError, match="the last of 3 workers") as caught:
            pool.apply(killed)
        assert caught.value.deaths == 3
        with pytest.raises(mp.WorkerDiedError):
            pool.apply_async(killed_twice, (tmp_path / "four",), retries=0).get(PATIENCE)


def test_arrays_are_what_they_were_when_a_task_is_run_again(tmp_path):
    numpy = pytest.importorskip("numpy")
    with mp.Pool(1) as pool:
        result = pool.apply_async(spoil, (numpy.ones(10_000), tmp_path / "spoilt"), retries=1)
        assert result.get(PATIENCE) == 10_000


def spoil(array, path):
    total = int(array.sum())
    array[:] = 0
    if not path.exists():
        path.touch()
        killed()
    return total


def test_workers_killed_at_random_lose_nothing_that_may_be_run_again():
    rng = random.Random(4)
    with mp.Pool(4, retries=1000) as pool:
        stop = threading.Event()
        kills = done = 0

        def storm():
            # No faster than the machine: where a worker needs longer for its first task (it imports this module) than
            # it may live, no task is ever done.
            nonlocal kills, done
            while not stop.wait(0.02):
                if (now := sum(row.done for row in pool.statistics())) > done:
                    done = now
                    kills += 1
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(rng.choice(pool._pool).pid, signal.SIGKILL)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            end = time.monotonic() + 3
            while time.monotonic() < end or kills < 20:
                assert pool.map(square, range(300), 1) == [x * x for x in range(300)]
                assert list(pool.imap(square, range(100))) == [x * x for x in range(100)]
                results = [pool.apply_async(square, (n,)) for n in range(100)]
                assert [result.get(PATIENCE) for result in results] == [n * n for n in range(100)]
        finally:
            stop.set()
            thread.join()


def test_without_retries_a_storm_fails_some_tasks_and_hangs_none():
    with mp.Pool(3) as pool:
        results = [pool.apply_async(rest, (0.01, n)) for n in range(200)]
        for _ in range(10):
            time.sleep(0.02)
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(pool._pool).pid, signal.SIGKILL)
        failed = 0
        for number, result in enumerate(results):
            try:
                assert result.get(PATIENCE) == number
            except mp.WorkerDiedError:
                failed += 1
        assert failed <= 10


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_task_that_takes_too_long_is_given_up(context):
    with context.Pool(2) as pool:
        began = time.monotonic()
        slow = pool.apply_async(rest, (60,), timeout=0.3)
        quick = pool.apply_async(rest, (0.01, 5), timeout=PATIENCE)
        with pytest.raises(mp.TaskTimeoutError, match="rest") as caught:
            slow.get(PATIENCE)
        assert caught.value.function == "rest"
        assert isinstance(caught.value, mp.TimeoutError)
        assert time.monotonic() - began < 10
        assert quick.get(PATIENCE) == 5
        assert pool.map(square, range(10)) == [x * x for x in range(10)]


def test_the_time_that_a_task_waits_for_a_worker_does_not_count():
    with mp.Pool(1, timeout=1.0) as pool:
        results = [pool.apply_async(rest, (0.4, n)) for n in range(5)]
        assert [result.get(PATIENCE) for result in results] == list(range(5))
        with pytest.raises(mp.TaskTimeoutError) as caught:
            pool.map(rest, [0, 0, 60, 0])
        assert caught.value.task == 2


def test_a_cancelled_task_is_not_run_and_one_that_runs_is_stopped(context, tmp_path):
    with context.Pool(1) as pool:
        running = pool.apply_async(rest, (60,))
        until(lambda: pool.statistics()[0].state == "busy")
        waiting = [pool.apply_async(killed_twice, (tmp_path / "never",)) for _ in range(100)]
        after = pool.apply_async(square, (5,))
        assert all(result.cancel() for result in waiting)
        began = time.monotonic()
        assert running.cancel()
        for result in (running, *waiting):
            with pytest.raises(CancelledError):
                result.get(PATIENCE)
            assert not result.successful()
        assert after.get(PATIENCE) == 25
        assert time.monotonic() - began < 10
        assert not after.cancel()
        assert after.get() == 25
        mapped = pool.map_async(rest, [60] * 5, 1)
        assert mapped.cancel()
        with pytest.raises(CancelledError):
            mapped.get(PATIENCE)
        assert not (tmp_path / "never").exists()


def test_a_worker_that_takes_too_much_memory_is_killed_and_named():
    with mp.Pool(1, worker_memory_limit=300 << 20) as pool:
        with pytest.raises(mp.WorkerDiedError, match="out of memory"):
            pool.apply(hog, (600,))
        assert pool.apply(square, (3,)) == 9


# --- workers that do not come up --------------------------------------------------------------------------------------


def test_an_initializer_that_fails_three_times_breaks_the_pool(context):
    with context.Pool(2, fail_to_begin) as pool:
        with pytest.raises(mp.PoolBrokenError, match="never ready") as caught:
            pool.apply_async(square, (3,)).get(PATIENCE)
        cause = caught.value.__cause__
        assert isinstance(cause, ZeroDivisionError)
        assert "in fail_to_begin" in str(cause.__cause__)
        for call in (pool.apply, pool.map):
            with pytest.raises(mp.PoolBrokenError):
                call(square, (3,))


def test_so_does_one_that_kills_its_worker():
    with mp.Pool(2, die_at_the_beginning) as pool, pytest.raises(mp.PoolBrokenError, match="exit code 9"):
        pool.map(square, range(10))


def killed_six_times(path):
    with open(path, "a") as file:
        file.write("x")
        if file.tell() <= 6:
            os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_somebody_kills_before_they_are_ready_do_not_break_it_so_soon(tmp_path):
    with mp.Pool(1, killed_six_times, (tmp_path / "kills",)) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]


def killed_always():
    os.kill(os.getpid(), signal.SIGKILL)


def test_but_in_the_end_they_do():
    with mp.Pool(1, killed_always) as pool, pytest.raises(mp.PoolBrokenError, match="SIGKILL"):
        pool.map(square, range(10))


def test_an_initializer_that_fails_now_and_then_does_not(tmp_path):
    with mp.Pool(2, fail_twice, (tmp_path / "failures",)) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]


def fail_twice(path):
    with open(path, "a") as file:
        file.write("x")
        if file.tell() <= 2:
            raise ZeroDivisionError


# --- ends of everything -----------------------------------------------------------------------------------------------

BUSY = """
import procession as mp, sys, time
def rest(seconds):
    time.sleep(seconds)
if __name__ == "__main__":
    with mp.get_context(sys.argv[1]).Pool(3) as pool:
        pool.map(abs, range(10))
        print(*[worker.pid for worker in pool._pool], flush=True)
        pool.map(rest, [60] * 20, 1)
"""


def started(tmp_path, start_method):
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    child = subprocess.Popen(
        [sys.executable, script, start_method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    return child, [int(pid) for pid in child.stdout.readline().split()]


def test_ctrl_c_stops_a_busy_pool_with_one_traceback(tmp_path, start_method):
    child, workers = started(tmp_path, start_method)
    assert len(workers) == 3
    until(lambda: all(state(worker) == "S" for worker in workers))
    time.sleep(0.1)
    began = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < 5
    assert err.count("Traceback") == 1 and "KeyboardInterrupt" in err, err
    until(lambda: all(state(worker) in "XZ" for worker in workers))


def test_workers_end_with_a_parent_that_is_killed(tmp_path, start_method):
    child, workers = started(tmp_path, start_method)
    child.kill()
    child.communicate(timeout=PATIENCE)
    until(lambda: all(state(worker) in "XZ" for worker in workers))


def test_nothing_of_family_memory_is_left_when_a_pool_is_gone(start_method):
    from procession import _core

    context = mp.get_context(start_method)

    def use():
        with context.Pool(2) as pool:
            pool.map(square, range(100), 1)
            pool.apply(len, (bytes(100_000),))
            with pytest.raises(mp.WorkerDiedError):
                pool.apply(killed)
            pool.close()
            pool.join()

    use()
    gc.collect()
    _core.sweep()
    before = _core._blocks()
    for _ in range(3):
        use()

    def blocks():
        gc.collect()
        mp.active_children()
        _core.sweep()
        return _core._blocks()

    until(lambda: blocks() <= before)


def test_a_task_that_takes_too_long_is_a_builtin_timeout_that_names_the_limit():
    with mp.get_context("fork").Pool(1) as pool, pytest.raises(TimeoutError) as caught:
        pool.apply_async(time.sleep, (60,), timeout=0.05).get(PATIENCE)
    assert isinstance(caught.value, mp.TaskTimeoutError) and isinstance(caught.value, mp.TimeoutError)
    assert caught.value.limit == 0.05 and "longer than the 0.05 seconds" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), vars(copy)) == (type(caught.value), str(caught.value), vars(caught.value))
