"""`procession.futures`: the interface of concurrent.futures, and calls that fail alone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, state, until
from procession import futures
from procession.futures import BrokenProcessPool, CancelledError, ProcessPoolExecutor, WorkerDiedError


def square(x):
    return x * x


def add(x, y, z=0):
    return x + y + z


def rest(seconds, value=None):
    time.sleep(seconds)
    return value


def fail(x):
    raise ValueError(x)


def fail_at_three(x):
    return fail(x) if x == 3 else x


def die(_=None):
    os._exit(1)


def fail_to_begin():
    raise ZeroDivisionError("never ready")


def pid(_=None):
    return os.getpid()


def test_calls_and_maps_give_what_they_give_everywhere(context):
    with ProcessPoolExecutor(2, context) as executor:
        assert executor.submit(add, 1, 2, z=3).result(PATIENCE) == 6
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]
        assert list(executor.map(add, range(20), range(30), chunksize=4)) == [2 * x for x in range(20)]
        assert list(executor.map(square, [])) == []
        done = executor.submit(square, 3)
        assert concurrent.futures.wait([done], PATIENCE).done == {done}
        assert [f.result() for f in futures.as_completed([executor.submit(square, 4)], PATIENCE)] == [16]
        with pytest.raises(ValueError, match="5") as caught:
            executor.submit(fail, 5).result(PATIENCE)
        assert "in fail" in str(caught.value.__cause__)
        assert isinstance(executor.submit(fail, 5).exception(PATIENCE), ValueError)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)


def test_a_crash_fails_only_the_future_of_that_call(context):
    with ProcessPoolExecutor(2, context) as executor:
        slow = executor.submit(rest, 0.5, 7)
        fatal = [executor.submit(die) for _ in range(3)]
        others = [executor.submit(square, x) for x in range(20)]
        assert slow.result(PATIENCE) == 7
        assert [f.result(PATIENCE) for f in others] == [x * x for x in range(20)]
        for future in fatal:
            with pytest.raises(WorkerDiedError, match="exit code 1"):
                future.result(PATIENCE)
        assert executor.submit(square, 3).result(PATIENCE) == 9


def test_an_initializer_that_fails_breaks_the_executor(context):
    with ProcessPoolExecutor(2, context, fail_to_begin) as executor:
        future = executor.submit(square, 1)
        with pytest.raises(BrokenProcessPool, match="never ready") as caught:
            future.result(PATIENCE)
        assert isinstance(caught.value, concurrent.futures.BrokenExecutor)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        with pytest.raises(BrokenProcessPool):
            executor.submit(square, 1)


def test_what_waits_can_be_cancelled_and_what_runs_killed():
    with ProcessPoolExecutor(1) as executor:
        running = executor.submit(rest, 60)
        until(running.running)
        waiting = [executor.submit(rest, 60) for _ in range(100)]
        after = executor.submit(square, 4)
        assert not running.cancel()
        assert all(future.cancel() for future in waiting)
        assert all(future.cancelled() and future.done() for future in waiting)
        assert running.kill()
        with pytest.raises(CancelledError):
            running.result(PATIENCE)
        assert after.result(PATIENCE) == 16
        assert not after.cancel() and not after.running()


def test_callbacks_of_futures_are_called():
    with ProcessPoolExecutor(1) as executor:
        got: list[Any] = []
        executor.submit(square, 3).add_done_callback(lambda future: got.append(future.result()))
        until(lambda: got == [9])


def test_map_reads_as_far_ahead_as_it_may_and_stops_at_an_error():
    read: list[int] = []

    def numbers():
        for number in range(1000):
            read.append(number)
            yield number

    with ProcessPoolExecutor(2) as executor:
        results = executor.map(square, numbers(), buffersize=4)
        assert next(results) == 0
        assert len(read) <= 5
        results.close()
        results = executor.map(fail_at_three, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="3"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        results = executor.map(rest, [60, 60], timeout=0.2)
        with pytest.raises(TimeoutError):
            next(results)
        executor.kill_workers()


def test_bad_arguments_are_refused():
    for arguments, error in [
        ({"max_workers": 0}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": 1.5}, TypeError),
    ]:
        with pytest.raises(error):
            ProcessPoolExecutor(**arguments)
    with ProcessPoolExecutor(1) as executor:
        for arguments, error in [({"chunksize": 0}, ValueError), ({"buffersize": 0}, ValueError)]:
            with pytest.raises(error):
                executor.map(square, [1], **arguments)
        with pytest.raises(TypeError):
            executor.map(square, [1], buffersize="4")
        with pytest.raises((TypeError, AttributeError)):
            executor.submit(square, threading.Lock()).result(PATIENCE)


def test_a_shutdown_finishes_what_there_is_or_cancels_what_waits():
    executor = ProcessPoolExecutor(1)
    results = [executor.submit(rest, 0.05, n) for n in range(5)]
    executor.shutdown()
    assert [future.result(0) for future in results] == list(range(5))
    executor = ProcessPoolExecutor(1)
    first, *others = [executor.submit(rest, 0.5, n) for n in range(5)]
    until(first.running)
    executor.shutdown(cancel_futures=True)
    assert first.result(0) == 0
    assert all(future.cancelled() for future in others)
    executor = ProcessPoolExecutor(1)
    executor.shutdown()


@pytest.mark.parametrize("method", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_by_force(method):
    executor = ProcessPoolExecutor(2)
    results = [executor.submit(rest, 60) for _ in range(4)]
    until(results[0].running)
    workers = list(executor._processes.values())
    getattr(executor, method)()
    for future in results:
        with pytest.raises(BrokenProcessPool):
            future.result(PATIENCE)
    until(lambda: not any(worker.is_alive() for worker in workers))
    with pytest.raises(RuntimeError):
        executor.submit(square, 1)


def test_workers_are_replaced_after_so_many_calls():
    with ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(pid).result(PATIENCE) for _ in range(6)]
        assert len(set(pids)) == 3


def test_retries_and_limits_are_those_of_a_pool(tmp_path):
    with ProcessPoolExecutor(1, retries=1, timeout=0.5) as executor:
        assert executor.submit(die_once, tmp_path / "mark").result(PATIENCE) == "again"
        with pytest.raises(mp.TaskTimeoutError):
            executor.submit(rest, 60).result(PATIENCE)
        assert [row.state for row in executor.statistics()] != []


def die_once(path):
    if not path.exists():
        path.touch()
        die()
    return "again"


def test_event_loops_use_it():
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2) as executor:
            values = await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(10)))
        return sum(values)

    assert asyncio.run(main()) == sum(n * n for n in range(10))


SCRIPT = """
import procession.futures, sys, time
def rest(seconds):
    time.sleep(seconds)
    return seconds
if __name__ == "__main__":
    executor = procession.futures.ProcessPoolExecutor(2)
    future = executor.submit(rest, 0.3)
    future.add_done_callback(lambda future: print("done", future.result(), flush=True))
"""


def test_what_is_under_way_at_the_end_of_the_program_is_done(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done 0.3\n", "", 0)


CTRL_C = """
import procession.futures, sys, time
if __name__ == "__main__":
    with procession.futures.ProcessPoolExecutor(2) as executor:
        print(executor.submit(abs, -1).result(), flush=True)
        print(*executor._processes, flush=True)
        list(executor.map(time.sleep, [60] * 4))
"""


def test_ctrl_c_ends_an_executor_with_one_traceback(tmp_path):
    (tmp_path / "script.py").write_text(CTRL_C)
    child = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    workers = [int(word) for word in child.stdout.readline().split()]
    until(lambda: all(state(worker) == "S" for worker in workers))
    time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE)
    assert err.count("Traceback") == 1, err
    until(lambda: all(state(worker) in "XZ" for worker in workers))


def test_a_worker_that_dies_is_an_error_of_a_broken_executor_too():
    with futures.ProcessPoolExecutor(1, mp.get_context("fork")) as executor:
        for failing in (
            lambda: executor.submit(os._exit, 3).result(PATIENCE),
            lambda: list(executor.map(os._exit, [3])),
        ):
            with pytest.raises(futures.BrokenExecutor) as caught:
                failing()
            assert isinstance(caught.value, mp.WorkerDiedError) and caught.value.exitcode == 3
            copy = pickle.loads(pickle.dumps(caught.value))
            assert type(copy) is futures.WorkerDiedError and vars(copy) == vars(caught.value)
        assert executor.submit(abs, -1).result(PATIENCE) == 1
