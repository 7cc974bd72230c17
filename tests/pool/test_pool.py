"""Pools of processes: the interface of multiprocessing, under every start method."""

from __future__ import annotations

import functools
import gc
import os
import signal
import threading
import time
import warnings
import weakref
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession.pool import AsyncResult, MaybeEncodingError, Pool

# --- what workers do --------------------------------------------------------------------------------------------------


def square(x):
    return x * x


def power(x, n=2):
    return x**n


def fail(x):
    raise ValueError(f"no root for {x}")


def fail_at_five(x):
    if x == 5:
        raise KeyError(x)
    return x


def rest(seconds, value=None):
    time.sleep(seconds)
    return value


def pid(_=None):
    return os.getpid()


def a_lambda(_=None):
    return lambda: 1


def note(path):
    with open(path, "a") as file:
        file.write("x")


class Demanding(Exception):
    """Cannot be unpickled: its `__init__` needs more than it says."""

    def __init__(self, one, two):
        super().__init__(one)


def demand(_):
    raise Demanding(1, 2)


class Unpicklable:
    """Cannot be pickled."""

    def __reduce__(self):
        raise RuntimeError("not for sending")


class Treacherous:
    """Cannot be unpickled."""

    def __reduce__(self):
        return explode, ()


def explode():
    raise OSError("not for reading")


def return_treachery(_=None):
    return Treacherous()


def take(obj):
    return None


class Base:
    """State that grows, in the object that a task is bound to."""

    def __init__(self):
        self.number = 1

    def get(self, more):
        return self.number + more


def nested(x):
    with mp.Pool(2) as pool:
        return sum(pool.map(square, range(x)))


# --- calls ------------------------------------------------------------------------------------------------------------


def test_every_way_to_call_gives_what_a_loop_would(context):
    with context.Pool(2) as pool:
        assert pool.apply(power, (3,), {"n": 4}) == 81
        assert pool.apply(power, [5]) == 25
        assert pool.map(square, range(50)) == [x * x for x in range(50)]
        assert pool.map(square, iter(range(7)), chunksize=3) == [x * x for x in range(7)]
        assert pool.starmap(power, [(2, 3), (3, 2), [10, 4]]) == [8, 9, 10000]
        assert list(pool.imap(square, range(30))) == [x * x for x in range(30)]
        assert list(pool.imap(square, range(30), chunksize=7)) == [x * x for x in range(30)]
        assert sorted(pool.imap_unordered(square, range(30))) == [x * x for x in range(30)]
        assert sorted(pool.imap_unordered(square, range(30), 4)) == [x * x for x in range(30)]
        result = pool.apply_async(power, (2,), {"n": 10})
        assert result.get(PATIENCE) == result.get() == 1024
        assert result.ready() and result.successful()
        assert pool.map_async(square, [2, 3]).get(PATIENCE) == [4, 9]
        assert pool.starmap_async(power, [(2, 3)], 1).get(PATIENCE) == [8]


def test_map_makes_chunks_that_become_smaller():
    with mp.Pool(2) as pool:
        assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
        chunks = until(lambda: sum(row.done for row in pool.statistics()))
        assert 16 < chunks < 150
    assert [len(chunk) for _, chunk in Pool._get_tasks(square, range(7), 3)] == [3, 3, 1]


def test_nothing_is_made_of_nothing(context):
    with context.Pool(1) as pool:
        assert pool.map(square, []) == pool.starmap(power, []) == pool.map_async(square, []).get() == []
        assert list(pool.imap(square, [])) == list(pool.imap_unordered(square, [])) == []
        assert pool.apply(int) == 0


def test_an_error_of_a_task_is_raised_with_the_traceback_of_the_worker(context):
    with context.Pool(1) as pool:
        with pytest.raises(ValueError, match="no root for -1") as caught:
            pool.apply(fail, (-1,))
        assert "in fail" in str(caught.value.__cause__)
        with pytest.raises(KeyError) as caught_key:
            pool.map(fail_at_five, range(10))
        assert caught_key.value.args == (5,)
        result = pool.apply_async(fail, (1,))
        result.wait()
        assert result.ready() and not result.successful()
        values = pool.imap(fail_at_five, range(4, 8))
        assert next(values) == 4
        with pytest.raises(KeyError):
            next(values)
        assert list(values) == [6, 7]


def test_map_waits_for_all_tasks_before_it_raises():
    with mp.Pool(2) as pool:
        began = time.monotonic()
        with pytest.raises(TypeError):
            pool.map(rest, [None, 0.5], 1)
        assert time.monotonic() - began >= 0.5


def test_a_result_that_takes_too_long_for_its_waiter_is_still_to_come():
    with mp.Pool(1) as pool:
        event = mp.Event()
        result = pool.apply_async(event.wait)
        with pytest.raises(mp.TimeoutError):
            result.get(0.05)
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        values = pool.imap(take, [1])
        with pytest.raises(mp.TimeoutError):
            values.next(0.05)
        event.set()
        assert result.get(PATIENCE) is True
        assert values.next(PATIENCE) is None


def test_callbacks_are_called_before_those_who_wait_go_on(context):
    with context.Pool(1) as pool:
        for _ in range(20):
            got: list[Any] = []
            pool.apply_async(square, (3,), callback=got.append, error_callback=got.append).wait()
            assert got == [9]
            pool.apply_async(fail, (3,), callback=got.append, error_callback=got.append).wait()
            assert isinstance(got[1], ValueError)
            pool.map_async(square, [1, 2], callback=got.append).wait()
            pool.starmap_async(power, [(2, 3)], callback=got.append).wait()
            assert got[2:] == [[1, 4], [8]]


def test_a_callback_is_called_though_nobody_keeps_the_result():
    with mp.Pool(1) as pool:
        got: list[int] = []
        for number in range(50):
            pool.apply_async(square, (number,), callback=got.append)
        until(lambda: len(got) == 50)
        assert got == [x * x for x in range(50)]


def test_a_callback_that_raises_harms_nobody(capsys):
    with mp.Pool(1) as pool:
        result = pool.apply_async(square, (3,), callback=lambda value: 1 / 0)
        assert result.get(PATIENCE) == 9
        got: list[int] = []
        pool.apply_async(square, (4,), callback=got.append).wait()
        assert got == [16]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_several_threads_get_the_same_result():
    with mp.Pool(2) as pool:
        results = [pool.apply_async(rest, (0.01, n)) for n in range(20)]
        seen: list[list[int]] = []
        threads = [threading.Thread(target=lambda: seen.append([r.get(PATIENCE) for r in results])) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join(PATIENCE) for thread in threads]
        assert seen == [list(range(20))] * 4


def test_several_threads_use_a_pool_at_once():
    with mp.Pool(2) as pool:
        answers: dict[int, Any] = {}

        def work(number: int) -> None:
            answers[number] = [pool.apply(power, (number, n)) for n in range(50)] + pool.map(square, range(number))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        [thread.start() for thread in threads]
        [thread.join(PATIENCE) for thread in threads]
        for number in range(4):
            assert answers[number] == [number**n for n in range(50)] + [x * x for x in range(number)]


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_lambdas_are_functions_and_arguments(context):
    k = 5
    with context.Pool(1) as pool:
        assert pool.map(lambda x: x + k, [1, 2]) == [6, 7]
        assert pool.apply(lambda call: call(3), (lambda x: x * k,)) == 15


def test_a_lambda_as_a_result_is_an_error_of_that_task(context):
    with context.Pool(1) as pool:
        got: list[Any] = []
        result = pool.apply_async(a_lambda, error_callback=got.append)
        with pytest.raises(MaybeEncodingError, match="lambda"):
            result.get(PATIENCE)
        assert got[0].exc is not None and got[0].value is not None
        assert pool.apply(square, (2,)) == 4


def test_what_cannot_be_pickled_or_unpickled_is_an_error_of_that_task(context):
    with context.Pool(1) as pool:
        with pytest.raises(RuntimeError, match="not for sending"):
            pool.apply_async(take, (Unpicklable(),)).get(PATIENCE)
        with pytest.raises(OSError, match="not for reading"):
            pool.apply(take, (Treacherous(),))
        with pytest.raises(MaybeEncodingError, match="not for sending"):
            pool.apply(Unpicklable)
        with pytest.raises(OSError, match="not for reading"):
            pool.apply(return_treachery)
        with pytest.raises(RuntimeError, match="not for sending"):
            pool.map(take, [1, Unpicklable(), 3], 1)
        values = pool.imap(take, [1, Unpicklable(), 3])
        assert next(values) is None
        with pytest.raises(RuntimeError, match="not for sending"):
            next(values)
        assert list(values) == [None]
        with pytest.raises(MaybeEncodingError, match=r"Demanding.*cannot be unpickled") as caught:
            pool.apply(demand, (1,))
        assert "in demand" in str(caught.value.__cause__)
        assert pool.apply(square, (2,)) == 4


def test_a_bound_object_is_sent_anew_with_each_call():
    with mp.Pool(1) as pool:
        base = Base()
        assert pool.apply(base.get, (1,)) == 2
        base.number = 10
        assert pool.apply(base.get, (1,)) == 11


def test_constant_arguments_are_sent_once_for_a_job(context):
    numpy = pytest.importorskip("numpy")
    constant = numpy.arange(100_000)
    with context.Pool(2) as pool:
        total = functools.partial(add_to, constant)
        sums = pool.map(total, range(20), 1)
    # each worker has an array of its own, and writes to it
    assert all(value >= int(constant.sum()) for value in sums)
    assert constant[0] == 0


def add_to(constant, number):
    constant[0] += 1
    return int(constant.sum())


def test_arrays_go_there_and_back():
    numpy = pytest.importorskip("numpy")
    with mp.Pool(2) as pool:
        arrays = [numpy.full(50_000, number) for number in range(6)]
        for number, array in enumerate(pool.map(double, arrays)):
            assert (array == 2 * number).all() and array.flags.writeable
        assert all((array == number).all() for number, array in enumerate(arrays))
        big = b"x" * 3_000_000
        assert pool.apply(len, (big,)) == len(big)
        assert pool.apply(kind_and_length, (big, b"y" * 400_000)) == [("bytes", len(big)), ("bytes", 400_000)]
        assert pool.apply_async(kind_and_length, (big,), retries=1).get(PATIENCE) == [("bytes", len(big))]
        assert pool.apply(bytes, (1_000_000,)) == bytes(1_000_000)


def kind_and_length(*objects):
    return [(type(obj).__name__, len(obj)) for obj in objects]


def double(array):
    array *= 2
    return array


def test_queues_and_locks_are_arguments(context):
    with context.Pool(1) as pool:
        queue = context.Queue()
        pool.apply(queue.put, (5,))
        assert queue.get(timeout=PATIENCE) == 5


# --- imap reads ahead, and not too far --------------------------------------------------------------------------------


def counted(read, count):
    for number in range(count):
        read.append(number)
        yield number


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_reads_its_input_only_so_far_ahead(method):
    with mp.Pool(2) as pool:
        for buffersize, chunksize in [(1, 1), (8, 1), (8, 3), (2, 5)]:
            read: list[int] = []
            values = getattr(pool, method)(square, counted(read, 1000), chunksize, buffersize=buffersize)
            for given in range(1, 40):
                next(values)
                assert len(read) <= given + buffersize
        read = []
        values = getattr(pool, method)(square, counted(read, 10**6))
        next(values)
        assert len(read) < 100
        for _ in range(5000):
            next(values)
        assert len(read) < 5001 + 2048


def test_an_input_that_raises_does_so_at_its_place():
    def numbers(count):
        yield from range(count)
        raise LookupError("no more")

    with mp.Pool(2) as pool:
        for chunksize, given in [(1, 7), (2, 6), (4, 4)]:
            values = pool.imap(square, numbers(7), chunksize)
            assert [next(values) for _ in range(given)] == [x * x for x in range(given)]
            with pytest.raises(LookupError):
                next(values)
            with pytest.raises(StopIteration):
                next(values)
        with pytest.raises(LookupError):
            pool.map(square, numbers(3))


# --- the life of a pool -----------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused():
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            mp.Pool(processes)
    for tasks in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            mp.Pool(1, maxtasksperchild=tasks)
    with pytest.raises(TypeError, match="callable"):
        mp.Pool(1, initializer=3)
    with pytest.raises(ValueError, match="inner_threads"):
        mp.Pool(1, inner_threads="many")
    with mp.Pool(1) as pool:
        with pytest.raises(ValueError, match="Chunksize"):
            pool.imap(square, [1], 0)
        with pytest.raises(ValueError, match="buffersize"):
            pool.imap(square, [1], buffersize=0)
        with pytest.raises(ValueError, match="still running"):
            pool.join()
        with pytest.raises(NotImplementedError):
            pool.__reduce__()


def test_a_closed_pool_finishes_what_it_has_and_takes_no_more(context):
    pool = context.Pool(2)
    results = pool.map_async(rest, [0.02] * 10, 1)
    pool.close()
    for call in (pool.apply, pool.apply_async, pool.map, pool.imap):
        with pytest.raises(ValueError, match="not running"):
            call(square, (1,))
    with pytest.raises(ValueError, match="not running"):
        pool.__enter__()
    pool.join()
    assert results.get(0) == [None] * 10
    assert all(process.exitcode == 0 for process in pool._pool)


@pytest.mark.parametrize("kind", ["apply", "map", "imap"])
def test_a_closed_pool_ends_though_somebody_waited_for_its_results(kind):
    pool = mp.Pool(2)
    result = (
        pool.apply_async(rest, (0.2,))
        if kind == "apply"
        else pool.map_async(rest, [0.1] * 4)
        if kind == "map"
        else pool.imap(rest, [0.1] * 4)
    )
    pool.close()
    if kind == "imap":
        assert list(result) == [None] * 4
    else:
        result.get(PATIENCE)
    joining = threading.Thread(target=pool.join)
    joining.start()
    joining.join(PATIENCE)
    ended = not joining.is_alive()
    pool.terminate()
    assert ended


def test_a_callback_comes_while_another_thread_waits_for_a_longer_call():
    with mp.Pool(2) as pool:
        long = pool.apply_async(rest, (60,))
        waiting = threading.Thread(target=long.wait)
        waiting.start()
        time.sleep(0.1)  # it waits by now; if it does not yet, there is nothing to see
        told: list[Any] = []
        pool.apply_async(square, (3,), callback=told.append)
        until(lambda: told == [9])
        long.cancel()
        waiting.join(PATIENCE)


def test_who_waits_for_a_pool_that_is_terminated_is_told():
    pool = mp.Pool(2)
    result, mapped = pool.apply_async(rest, (60,)), pool.map_async(rest, [60] * 1000)
    values = pool.imap(rest, [60] * 3)
    told: list[Any] = []
    pool.apply_async(rest, (60,), error_callback=told.append)
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < 5
    for get in (result.get, mapped.get, values.next):
        with pytest.raises(mp.PoolBrokenError, match="terminated"):
            get(PATIENCE)
    # as in multiprocessing, no callback is called for what was given up; the thread that would call has ended
    assert not told


def test_a_forgotten_pool_ends_with_a_warning():
    pool = mp.Pool(2)
    workers, gone = list(pool._pool), weakref.ref(pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert any("unclosed running multiprocessing pool" in str(warning.message) for warning in caught)
    caught.clear()  # a warning holds its source
    assert gone() is None
    until(lambda: not any(worker.is_alive() for worker in workers))


def test_the_initializer_runs_once_in_each_worker(context, tmp_path):
    with context.Pool(2, note, (tmp_path / "notes",)) as pool:
        pool.map(square, range(10))
        until(lambda: (tmp_path / "notes").read_text() == "xx")


def test_workers_are_replaced_after_so_many_tasks(context):
    with context.Pool(2, maxtasksperchild=3) as pool:
        pids = [pool.apply(pid) for _ in range(8)]
        assert max(pids.count(one) for one in pids) <= 3
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
        pool._repopulate_pool()
        assert len(pool._pool) == 2


def test_workers_may_have_pools_of_their_own(context):
    with context.Pool(2) as pool:
        assert pool.map(nested, [3, 4]) == [5, 14]


def test_a_pool_is_of_no_use_in_a_forked_child():
    with mp.Pool(1) as pool:
        child = os.fork()
        if child == 0:
            try:
                pool.apply(square, (1,))
            except RuntimeError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert pool.apply(square, (3,)) == 9


def test_statistics_tell_what_each_worker_does():
    with mp.Pool(2) as pool:
        pool.map(square, range(8), 1)
        busy = pool.apply_async(rest, (60,))
        until(lambda: {row.state for row in pool.statistics()} == {"busy", "idle"})
        rows = pool.statistics()
        assert {row.pid for row in rows} == {process.pid for process in pool._pool}
        assert sum(row.done for row in rows) == 8
        assert all(row.memory > 0 and row.restarts == 0 for row in rows)
        assert busy.cancel()


def test_numerical_libraries_use_as_many_threads_as_they_are_told(context, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # Dask sets it in programs that start nodes
    with context.Pool(2, inner_threads=1) as pool:
        assert pool.apply(os.getenv, ("OMP_NUM_THREADS",)) == "1"
    assert os.environ.get("OMP_NUM_THREADS") != "1"


def test_names_are_where_multiprocessing_has_them():
    from procession import pool

    assert AsyncResult is pool.ApplyResult
    assert AsyncResult[int]
    with mp.Pool(1) as made:
        assert isinstance(made, Pool)
        assert made._state == pool.RUN
        assert repr(made) == "<procession.pool.Pool state=RUN pool_size=1>"


# --- signals ----------------------------------------------------------------------------------------------------------


def test_every_wait_survives_a_storm_of_signals():
    """A signal handler every 3 ms, while results are waited for in every way."""
    hits = 0

    def hit(signum: int, frame: Any) -> None:
        nonlocal hits
        hits += 1

    before = signal.signal(signal.SIGALRM, hit)
    try:
        with mp.Pool(2) as pool:
            signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
            for turn in range(30):
                assert pool.apply(rest, (0.01, turn)) == turn
                assert pool.apply_async(rest, (0.02, turn)).get(PATIENCE) == turn
                assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
                assert list(pool.imap(square, range(20))) == [x * x for x in range(20)]
                got: list[int] = []
                pool.apply_async(rest, (0.01, turn), callback=got.append).wait(PATIENCE)
                assert got == [turn]
            os.kill(pool._pool[0].pid, signal.SIGKILL)
            assert pool.map(square, range(50), 1) == [x * x for x in range(50)]
            pool.close()
            pool.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits > 50


def test_workers_survive_a_storm_of_signals(context):
    with context.Pool(2) as pool:
        results = pool.map_async(rest, [0.01] * 100, 1)
        while not results.ready():
            for process in pool._pool:
                os.kill(process.pid, signal.SIGCHLD)
            time.sleep(0.001)
        assert results.get() == [None] * 100


# --- what errors say --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [False, True])
def test_an_error_of_a_map_names_its_item(threads):
    with mp.pool.ThreadPool(2) if threads else mp.get_context("fork").Pool(2) as pool:
        calls = {
            "map": lambda: pool.map(fail_at_five, range(10), 4),
            "chunks of one": lambda: pool.map(fail_at_five, range(10), 1),
            "imap": lambda: list(pool.imap(fail_at_five, range(10))),
            "imap in chunks": lambda: list(pool.imap_unordered(fail_at_five, range(10), 4)),
        }
        for call in calls.values():
            with pytest.raises(KeyError) as caught:
                call()
            assert caught.value.__notes__ == ["raised by the call for item 5: 5"]
        with pytest.raises(TypeError) as mistyped:
            pool.starmap(pow, [(1, 1), ("x", 1)])
        assert mistyped.value.__notes__ == ["raised by the call for item 1: ('x', 1)"]
        with pytest.raises(KeyError) as alone:
            pool.apply(fail_at_five, (5,))
        assert not hasattr(alone.value, "__notes__")


def test_a_note_of_an_item_is_short_whatever_the_item_is():
    class Odd:
        def __repr__(self):
            raise ValueError("no repr")

    with mp.pool.ThreadPool(1) as pool:
        for item in (Odd(), "x" * 10_000, list(range(10_000)), [["x" * 1000] * 100] * 100):
            with pytest.raises(ValueError, match="no root") as caught:
                pool.map(fail_shortly, [item])
            (note,) = caught.value.__notes__
            assert note.startswith("raised by the call for item 0: ") and len(note) < 300


def fail_shortly(_):
    raise ValueError("no root")


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def method(self, x):
        return x


@pytest.mark.parametrize("call", ["map", "imap", "starmap", "apply"])
def test_a_method_that_cannot_be_sent_names_the_place(call):
    with mp.get_context("fork").Pool(1) as pool, pytest.raises(TypeError) as caught:
        list(getattr(pool, call)(Locked().method, [(1,)]))
    assert ".__self__.lock: _thread.lock" in "\n".join(caught.value.__notes__)
    with mp.get_context("fork").Pool(1) as pool, pytest.raises(TypeError) as caught:
        list(getattr(pool, call)(functools.partial(pow, threading.Lock()), [(1,)]))
    assert ".args[0]: _thread.lock" in "\n".join(caught.value.__notes__)
