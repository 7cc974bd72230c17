"""What a worker knows of itself and is given: its number, its state, its environment, the function at its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types

import pytest

import procession as mp
from deadlines import until
from procession import futures
from procession.pool import ThreadPool

MODE_AT_IMPORT = os.environ.get("PROCESSION_TEST_MODE")


def number_and_pid(_=None):
    return mp.worker_id(), os.getpid()


def slow_number(_):
    import time

    time.sleep(0.02)
    return mp.worker_id()


def number_in_child():
    results = mp.get_context("fork").SimpleQueue()
    child = mp.get_context("fork").Process(target=lambda: results.put(mp.worker_id()))
    child.start()
    child.join()
    return results.get()


def begin(value):
    assert not mp.worker_state()
    mp.worker_state()["value"] = value


def state_value(_=None):
    mp.worker_state()["calls"] = mp.worker_state().get("calls", 0) + 1
    return mp.worker_state().get("value")


def calls():
    return mp.worker_state().get("calls", 0)


def failing():
    raise LookupError("at the end")


def unsendable_at_the_end():
    return threading.Lock()


def mode(_=None):
    return os.environ.get("PROCESSION_TEST_MODE"), MODE_AT_IMPORT


# --- number and state -------------------------------------------------------------------------------------------------


def test_workers_have_the_numbers_from_0(context):
    assert mp.worker_id() is None
    with context.Pool(3) as pool:
        until(lambda: set(pool.map(slow_number, range(12), 1)) == {0, 1, 2})
    assert mp.worker_id() is None


def test_a_worker_that_replaces_a_dead_one_has_its_number(context):
    with context.Pool(1) as pool:
        number, pid = pool.apply(number_and_pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: pool.apply_async(number_and_pid, retries=5).get()[1] != pid)
        assert number == pool.apply(number_and_pid)[0] == 0
    with context.Pool(1, maxtasksperchild=1) as pool:
        assert [number for number, _ in pool.map(number_and_pid, range(3), 1)] == [0, 0, 0]


def test_a_process_that_a_worker_starts_has_no_number():
    with mp.get_context("fork").Pool(1) as pool:
        assert pool.apply(number_in_child) is None


def test_threads_of_a_pool_have_numbers_and_states_of_their_own():
    with ThreadPool(2, begin, (7,)) as pool:
        until(lambda: set(pool.map(slow_number, range(8), 1)) == {0, 1})
        assert set(pool.map(state_value, range(8))) == {7}
    assert mp.worker_id() is None
    assert "value" not in mp.worker_state()


def test_the_state_of_a_worker_lives_as_long_as_the_worker(context):
    mp.worker_state()["value"] = "of the parent"
    try:
        with context.Pool(1, begin, (5,)) as pool:
            assert pool.map(state_value, range(3)) == [5, 5, 5]
            assert pool.apply(calls) == 3
        with context.Pool(1, begin, (5,), maxtasksperchild=1) as pool:
            pool.map(state_value, range(3), 1)
            assert pool.apply(calls) == 0
    finally:
        mp.worker_state().clear()


# --- the environment --------------------------------------------------------------------------------------------------


def test_workers_have_the_variables_of_their_pool(context, monkeypatch):
    monkeypatch.setenv("PROCESSION_TEST_GONE", "there")
    with context.Pool(1, env={"PROCESSION_TEST_MODE": "new", "PROCESSION_TEST_GONE": None}) as pool:
        now, imported = pool.apply(mode)
        assert now == "new"
        if context.get_start_method() != "fork":  # the module of the function is imported after that
            assert imported == "new"
        assert pool.apply(os.getenv, ("PROCESSION_TEST_GONE",)) is None
    assert "PROCESSION_TEST_MODE" not in os.environ
    assert os.environ["PROCESSION_TEST_GONE"] == "there"


def test_variables_win_over_the_number_of_inner_threads(context):
    with context.Pool(1, inner_threads=3, env={"OMP_NUM_THREADS": "2"}) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "2"
        assert pool.apply(os.getenv, ("MKL_NUM_THREADS",)) == "3"


def test_an_executor_has_the_options_of_its_pool(context):
    with futures.ProcessPoolExecutor(
        1, context, begin, (3,), env={"PROCESSION_TEST_MODE": "x"}, exit_function=calls
    ) as executor:
        assert executor.exit_results() == []
        assert executor.submit(state_value).result() == 3
        assert executor.submit(mode).result()[0] == "x"
    assert executor.exit_results() == [1]


@pytest.mark.parametrize("env", [3, "a", {"a": 1}, {1: "a"}, {"a=b": "c"}, {"": "c"}, {"a": "b\0"}])
def test_what_is_no_environment_is_refused(env):
    with pytest.raises((TypeError, ValueError), match="env"):
        mp.Pool(1, env=env)
    with pytest.raises((TypeError, ValueError), match="env"):
        futures.ProcessPoolExecutor(1, env=env)


def libraries_limited_to(_=None):
    return sys.modules["threadpoolctl"].limits


def test_threadpoolctl_limits_the_threads_if_it_is_installed(monkeypatch):
    pytest.importorskip("numpy")
    stand_in = types.ModuleType("threadpoolctl")
    stand_in.limits = []
    stand_in.threadpool_limits = stand_in.limits.append
    monkeypatch.setitem(sys.modules, "threadpoolctl", stand_in)
    with mp.get_context("fork").Pool(1, inner_threads=2) as pool:
        assert pool.apply(libraries_limited_to) == [2]


# --- the function at the end ------------------------------------------------------------------------------------------


def test_results_of_the_exit_function_arrive(context):
    pool = context.Pool(2, exit_function=calls)
    pool.map(state_value, range(10), 1)
    pool.close()
    pool.join()
    results = pool.exit_results()
    assert len(results) == 2
    assert sum(results) == 10
    assert pool.exit_results() == results


def test_a_worker_calls_it_also_before_it_is_replaced(context):
    pool = context.Pool(1, exit_function=calls, maxtasksperchild=2)
    pool.map(state_value, range(6), 1)
    pool.close()
    pool.join()
    assert pool.exit_results()[:3] == [2, 2, 2]


def test_an_exception_of_the_exit_function_is_raised_with_the_results(context):
    for function, kind in ((failing, LookupError), (unsendable_at_the_end, mp.pool.MaybeEncodingError)):
        pool = context.Pool(1, exit_function=function)
        pool.close()
        pool.join()
        with pytest.raises(kind):
            pool.exit_results()
        (error,) = pool.exit_results(return_exceptions=True)
        assert isinstance(error, kind)


def test_a_terminated_worker_does_not_call_it(context, tmp_path):
    def leave_a_trace(path=tmp_path / "trace"):
        path.touch()

    with context.Pool(2, exit_function=leave_a_trace) as pool:
        pool.apply(abs, (1,))
    pool.join()
    assert pool.exit_results() == []
    assert not (tmp_path / "trace").exists()


def test_a_killed_worker_has_no_result_and_the_others_have(context):
    pool = context.Pool(1, exit_function=calls)
    _, pid = pool.apply(number_and_pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pool.apply_async(number_and_pid, retries=5).get()[1] != pid)
    pool.close()
    pool.join()
    assert pool.exit_results() == [0]


def test_pools_without_an_exit_function_say_so():
    with mp.Pool(1) as pool, pytest.raises(ValueError, match="without exit_function"):
        pool.exit_results()
    with ThreadPool(1) as threads, pytest.raises(ValueError, match="without exit_function"):
        threads.exit_results()
    with futures.ProcessPoolExecutor(1) as executor, pytest.raises(ValueError, match="without exit_function"):
        executor.exit_results()
    with pytest.raises(TypeError, match="exit_function"):
        mp.Pool(1, exit_function=3)
    with pytest.raises(TypeError, match="exit_function"):
        ThreadPool(1, exit_function=print)
