"""What becomes of calls that their caller gives up: by Ctrl-C, a cancelled `await`, `cancel_all`, `terminate`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.pool import Pool, ThreadPool
from programs import run, write


def rest(seconds):
    time.sleep(seconds)
    return seconds


def interrupted(call: Any, pool: Any) -> None:
    """Has call() interrupted by SIGINT as soon as a worker is busy."""
    done = threading.Event()

    def interrupt() -> None:
        until(lambda: any(row.state == "busy" for row in pool.statistics()))
        while not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            done.wait(0.05)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            try:
                call()
            finally:
                done.set()
    finally:
        done.set()
        thread.join()


CALLS = {
    "map": lambda pool: pool.map(rest, [60] * 8, 1),
    "starmap": lambda pool: pool.starmap(rest, [(60,)] * 8, 1),
    "map_async": lambda pool: pool.map_async(rest, [60] * 8, 1).get(),
    "apply": lambda pool: pool.apply(rest, (60,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_ctrl_c_ends_leaves_the_pool_free(name):
    with mp.Pool(2) as pool:
        assert pool.map(rest, [0] * 4) == [0] * 4
        interrupted(lambda: CALLS[name](pool), pool)
        assert pool.map_async(rest, [0] * 4).get(PATIENCE) == [0] * 4


def test_a_wait_that_is_over_takes_nothing_back():
    with mp.Pool(2) as pool:
        result = pool.map_async(rest, [0.2] * 2, 1)
        with pytest.raises(mp.TimeoutError):
            result.get(0.01)
        assert result.get(PATIENCE) == [0.2] * 2


@pytest.mark.parametrize(
    "made", [lambda pool: pool.apply_async(rest, (60,)), lambda pool: pool.map_async(rest, [60] * 4, 1)]
)
def test_a_cancelled_await_gives_its_call_up(made):
    async def main(pool: Any) -> Any:
        result = made(pool)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_await(result), 0.05)
        with pytest.raises(CancelledError):
            result.get(PATIENCE)
        return await asyncio.wait_for(_await(pool.apply_async(pow, (2, 3))), PATIENCE)

    with mp.Pool(1) as pool:
        assert asyncio.run(main(pool)) == 8


async def _await(result: Any) -> Any:
    return await result


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_cancel_all_gives_up_what_waits_and_leaves_the_pool_open(kind):
    with kind(2) as pool:
        goes_on = threading.Event()
        if kind is ThreadPool:  # threads cannot be killed: two calls that run, run on
            running = [pool.apply_async(goes_on.wait, (PATIENCE,)) for _ in range(2)]
            until(lambda: all(row.state == "busy" for row in pool.statistics()))
        results = [pool.apply_async(rest, (60,)) for _ in range(20)]
        mapped = pool.map_async(rest, [60] * 20, 1)
        values = pool.imap(rest, (60 for _ in range(1000)))
        assert pool.cancel_all() > 20
        goes_on.set()
        for result in [*results, mapped]:
            with pytest.raises(CancelledError):
                result.get(PATIENCE)
        cancelled = 0
        for _ in range(2000):
            try:
                values.next(PATIENCE)
            except CancelledError:
                cancelled += 1
            except StopIteration:
                break
        assert cancelled
        if kind is ThreadPool:
            assert [result.get(PATIENCE) for result in running] == [True, True]
        assert pool.map_async(rest, [0] * 4).get(PATIENCE) == [0] * 4


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_terminate_calls_no_callback_for_what_it_gives_up(kind):
    told: list[Any] = []
    pool = kind(1)
    pause = threading.Event()
    wait = rest if kind is Pool else pause.wait
    for _ in range(5):
        pool.apply_async(wait, (60,), callback=told.append, error_callback=told.append)
    pool.map_async(wait, [60] * 5, callback=told.append, error_callback=told.append)
    pool.terminate()
    pause.set()
    pool.join()
    assert not [value for value in told if isinstance(value, BaseException)]


def test_what_breaks_a_pool_is_told_to_error_callbacks(start_method):
    told: list[Any] = []
    with mp.get_context(start_method).Pool(1, sys.exit, (3,)) as pool:
        pool.apply_async(rest, (0,), error_callback=told.append)
        until(lambda: told)
        assert isinstance(told[0], mp.PoolBrokenError)


PRINTS = """
    import sys, time
    import procession as mp

    def say(n):
        print("line", n)

    def say_and_rest(n):
        say(n)
        if n >= 2:
            print("no end of line", end=" ")
            time.sleep(60)

    if __name__ == "__main__":
        mp.set_start_method(sys.argv[1])
        if sys.argv[2] == "idle":
            with mp.Pool(2) as pool:
                pool.map(say, range(10))
        else:  # the worker is busy when the pool ends, after tasks that are done
            with mp.Pool(1) as pool:
                results = [pool.apply_async(say_and_rest, (n,)) for n in range(3)]
                while not all(row.state == "busy" and row.done == 2 for row in pool.statistics()):
                    time.sleep(0.005)
"""


def test_what_workers_print_is_there_when_the_pool_has_ended(start_method, tmp_path):
    script = write(tmp_path / "prints.py", PRINTS)
    out = run(script, start_method, "idle", PYTHONUNBUFFERED="").well()
    assert sorted(out.split("\n")) == ["", *(f"line {n}" for n in range(10))]


def test_what_a_worker_printed_in_an_earlier_task_is_there_though_it_is_killed_in_a_later_one(start_method, tmp_path):
    script = write(tmp_path / "prints.py", PRINTS)
    out = run(script, start_method, "busy", PYTHONUNBUFFERED="").out
    assert {"line 0", "line 1"} <= set(out.split("\n"))


ENDS = """
    import os, sys, time
    import procession as mp
    from procession import util

    def begin(folder):
        util.Finalize(None, open, args=(os.path.join(folder, str(os.getpid())), "w"), exitpriority=1)

    if __name__ == "__main__":
        mp.set_start_method(sys.argv[1])
        with mp.Pool(3, begin, (sys.argv[2],)) as pool:
            while not all(row.state == "idle" for row in pool.statistics()):
                time.sleep(0.005)
        print(len(os.listdir(sys.argv[2])))
"""


def test_idle_workers_of_a_terminated_pool_run_their_finalizers(start_method, tmp_path):
    (tmp_path / "ended").mkdir()
    script = write(tmp_path / "ends.py", ENDS)
    assert run(script, start_method, tmp_path / "ended").well() == "3\n"


def test_a_time_limit_counts_from_the_call_and_not_from_the_import_of_its_module(start_method, tmp_path):
    write(tmp_path / "slow_to_import.py", "import time\ntime.sleep(1.0)\n\ndef same(x):\n    return x\n")
    script = write(
        tmp_path / "main.py",
        """
        import sys
        import procession as mp

        if __name__ == "__main__":
            sys.path.insert(0, sys.argv[2])
            import slow_to_import
            mp.set_start_method(sys.argv[1])
            with mp.Pool(1, timeout=0.6) as pool:
                print(pool.apply(slow_to_import.same, (3,)), pool.map(slow_to_import.same, [4]))
        """,
    )
    assert run(script, start_method, tmp_path).well() == "3 [4]\n"


def test_a_limit_without_end_is_none():
    with mp.Pool(1, timeout=0.05) as pool:
        assert pool.apply_async(rest, (0.2,), timeout=float("inf")).get(PATIENCE) == 0.2
        with pytest.raises(mp.TaskTimeoutError):
            pool.apply_async(rest, (60,)).get(PATIENCE)
