"""The methods of a pool over a cluster: they mean what they mean on one machine."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from functools import partial

import pytest

import cluster_tasks as tasks
import procession as mp
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor


def test_a_pool_has_a_worker_for_each_core_of_each_node(cluster):
    with cluster.Pool() as pool:
        pids = until(lambda: len(found := set(pool.map(tasks.pid, range(50), chunksize=1))) == 2 and found)
        assert os.getpid() not in pids
        assert cluster.cpu_count() == 2


def test_every_kind_of_call_returns_what_it_returns_on_one_machine(cluster):
    with cluster.Pool() as pool:
        assert pool.apply(tasks.add, (1,), {"b": 2}) == 3
        assert pool.apply_async(tasks.add, (1, 2)).get(PATIENCE) == 3
        assert pool.map(tasks.square, range(1000)) == [n * n for n in range(1000)]
        assert pool.map(tasks.square, range(100), chunksize=7) == [n * n for n in range(100)]
        assert pool.map(tasks.square, []) == []
        assert pool.map(tasks.square, iter(range(5))) == [0, 1, 4, 9, 16]
        assert pool.starmap(tasks.add, [(1, 2), (3, 4)]) == [3, 7]
        assert pool.starmap_async(tasks.add, [(1, 2), (3, 4)]).get(PATIENCE) == [3, 7]
        assert list(pool.imap(tasks.square, range(100))) == [n * n for n in range(100)]
        assert list(pool.imap(tasks.square, (n for n in range(100)), chunksize=9)) == [n * n for n in range(100)]
        assert sorted(pool.imap_unordered(tasks.square, range(100), 3)) == [n * n for n in range(100)]


def test_workers_of_the_nodes_have_the_variables_of_the_pool_and_numbers(cluster):
    with cluster.Pool(2, env={"OF_THE_POOL": "yes", "HOME": None}) as pool:
        assert pool.apply(os.getenv, ("OF_THE_POOL",)) == "yes"
        assert pool.apply(os.getenv, ("HOME",)) is None
        assert pool.apply(mp.worker_id) == 0
    for option, value in {"exit_function": os.getpid, "logs": True, "output": "forward"}.items():
        with pytest.raises(ValueError, match=option):
            cluster.Pool(**{option: value})


def test_a_seed_gives_the_numbers_that_it_gives_on_one_machine(cluster):
    with cluster.Pool(seed=9) as pool, mp.Pool(1, seed=9) as here:
        assert pool.map(tasks.random_number, range(20)) == here.map(tasks.random_number, range(20))
        assert pool.starmap(tasks.random_number, [(1,)] * 9, 4) == here.starmap(tasks.random_number, [(1,)] * 9)
        assert pool.apply(tasks.random_number) == here.apply(tasks.random_number)


def test_a_closed_pool_does_what_it_has_and_is_joined(cluster):
    pool = cluster.Pool()
    result = pool.map_async(tasks.square, range(1000), chunksize=1)
    pool.close()
    with pytest.raises(ValueError):
        pool.apply(tasks.pid)
    pool.join()
    assert result.get(0) == [n * n for n in range(1000)]


def test_the_size_of_a_pool_is_the_number_of_its_workers(cluster):
    with cluster.Pool(5) as pool:
        until(lambda: "state=RUN pool_size=5>" in repr(pool))
        assert isinstance(pool.statistics()[0], mp.pool.WorkerStatistics)


def test_the_context_shows_the_process_class_that_it_has(cluster):
    assert issubclass(cluster.Process, type(cluster).Process)
    assert type(cluster).Process.__name__ == "ClusterProcess"


def test_callbacks_are_called_in_a_thread_of_the_pool(cluster):
    come = []
    with cluster.Pool() as pool:
        pool.apply_async(tasks.square, (3,), callback=lambda value: come.append((value, threading.get_ident()))).get()
        pool.map_async(tasks.square, range(3), callback=lambda value: come.append((value, 0))).wait()
        pool.apply_async(tasks.fail_at, (1, 1), error_callback=lambda error: come.append((str(error), 0))).wait()
    assert [value for value, _ in come] == [9, [0, 1, 4], "1 is bad"]
    assert come[0][1] != threading.get_ident()


@pytest.mark.parametrize("chunksize", [1, 3])
def test_exceptions_are_returned_raised_together_or_end_the_call_as_on_one_machine(cluster, chunksize):
    call = partial(tasks.fail_at, 2)
    with cluster.Pool() as pool:
        for results in (
            pool.map(call, range(5), chunksize, on_error="return"),
            list(pool.imap(call, range(5), chunksize, on_error="return")),
        ):
            assert [repr(value) for value in results] == ["0", "1", "ValueError('2 is bad')", "3", "4"]
            assert results[2].item_index == 2
            assert "On node" in str(results[2].__cause__)
        with pytest.raises(ExceptionGroup) as caught:
            pool.map(call, range(5), chunksize, on_error="group")
        assert [one.item_index for one in caught.value.exceptions] == [2]
        with pytest.raises(ValueError, match="2 is bad"):
            pool.map(call, range(5), chunksize, on_error="stop")
        assert pool.map(call, range(2)) == [0, 1]


def test_calls_that_raise_are_made_again_as_on_one_machine(cluster, tmp_path):
    call = partial(tasks.fail_once, str(tmp_path))
    with cluster.Pool(retries=1, retry_on=OSError) as pool:
        assert pool.map(call, range(4)) == [0, 1, 2, 3]
        assert pool.apply_async(call, (4,)).get(PATIENCE) == 4


def test_an_error_says_on_which_node_it_was_raised_and_for_which_item(cluster):
    with cluster.Pool() as pool, pytest.raises(ValueError, match="37 is bad") as caught:
        pool.map(partial(tasks.fail_at, 37), range(100))
    assert "raised by the call for item 37: 37" in caught.value.__notes__
    assert "On node node-" in str(caught.value.__cause__)
    assert "in fail_at" in str(caught.value.__cause__)


def test_other_calls_go_on_after_an_error(cluster):
    with cluster.Pool() as pool:
        results = [pool.apply_async(tasks.fail_at, (3, n)) for n in range(6)]
        for n, result in enumerate(results):
            if n == 3:
                with pytest.raises(ValueError):
                    result.get(PATIENCE)
            else:
                assert result.get(PATIENCE) == n


def test_lambdas_and_local_classes_go_by_value_and_come_back_as_themselves(cluster):
    class Local(Exception):
        pass

    def fail(n):
        raise Local(n)

    with cluster.Pool() as pool:
        factor = 3
        assert pool.map(lambda n: n * factor, range(5)) == [0, 3, 6, 9, 12]
        with pytest.raises(Local):
            pool.apply(fail, (1,))


def test_an_initializer_runs_once_in_each_worker(cluster):
    with cluster.Pool(initializer=tasks.begin, initargs=("here",)) as pool:
        pool.map(tasks.pid, range(50), chunksize=1)
        for begun, _ in pool.map(tasks.what_begun, range(50), chunksize=1):
            assert begun == ["here"]


def test_an_initializer_that_fails_breaks_the_pool_and_is_its_cause(cluster):
    with cluster.Pool(initializer=tasks.begin_badly) as pool:
        with pytest.raises(mp.PoolBrokenError, match="no licence") as caught:
            pool.apply(tasks.pid)
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_exception_of_an_initializer_is_unpickled_by_the_thread_that_gets_it(cluster):
    with cluster.Pool(initializer=tasks.begin_with_an_error_that_tells) as pool:
        with pytest.raises(mp.PoolBrokenError) as caught:
            pool.apply(tasks.pid)
        assert caught.value.__cause__.thread == threading.current_thread().name


def test_a_callback_that_ends_its_thread_ends_the_pool_and_hangs_no_wait(cluster, capfd):
    with cluster.Pool() as pool:
        ends = pool.apply_async(tasks.square, (2,), callback=sys.exit)
        other = pool.apply_async(tasks.sleep, (1000,), callback=print)
        assert ends.get(PATIENCE) == 4
        with pytest.raises(mp.PoolBrokenError):
            other.get(PATIENCE)


def test_a_result_that_ends_its_reader_is_an_error_of_its_call_alone(cluster):
    with ProcessPoolExecutor(mp_context=cluster) as executor:
        with pytest.raises(SystemExit):
            executor.submit(tasks.return_what_ends_its_reader).result(PATIENCE)
        assert executor.submit(tasks.square, 3).result(PATIENCE) == 9


@pytest.mark.parametrize("option", ["maxtasksperchild", "worker_memory_limit", "inner_threads", "processes"])
def test_numbers_that_no_message_can_carry_are_refused(cluster, option):
    with pytest.raises(ValueError, match=f"{option} must be below"):
        cluster.Pool(**{option: 2**70})


def test_a_pool_after_a_smaller_one_is_shared_out_over_all_nodes(cluster):
    for processes in (1, 2, 2):
        with cluster.Pool(processes) as pool:
            assert len({row.node for row in pool.statistics()}) == processes


def test_a_number_of_workers_is_that_of_all_nodes_together(cluster):
    with cluster.Pool(3) as pool:
        assert len({row.pid for row in pool.statistics()}) == 3
    with cluster.Pool(1) as pool:
        assert len(set(pool.map(tasks.pid, range(30), chunksize=1))) == 1


def test_a_worker_ends_after_its_number_of_tasks(cluster):
    with cluster.Pool(maxtasksperchild=1) as pool:
        pids = pool.map(tasks.pid, range(6), chunksize=1)
        assert len(set(pids)) == 6


def test_statistics_name_the_node_of_each_worker(cluster):
    with cluster.Pool() as pool:
        pool.map(tasks.square, range(100), chunksize=1)
        rows = pool.statistics()
        assert sorted(row.node for row in rows) == ["node-0", "node-1"]
        # a worker counts a task after it has returned its result
        until(lambda: sum(row.done for row in pool.statistics()) == 100)
        assert all(row.memory > 0 for row in rows)


def test_a_task_that_takes_too_long_is_ended_and_the_error_names_the_node(cluster):
    with cluster.Pool() as pool:
        with pytest.raises(mp.TaskTimeoutError, match=r"on node node-.*0\.2 seconds"):
            pool.apply_async(tasks.sleep, (1000,), timeout=0.2).get(PATIENCE)
        assert pool.map(tasks.square, range(4), timeout=PATIENCE) == [0, 1, 4, 9]


def test_cancelling_ends_a_call_that_runs(cluster, tmp_path):
    from concurrent.futures import CancelledError

    began, never = tmp_path / "began", tmp_path / "never"
    with cluster.Pool() as pool:
        result = pool.apply_async(tasks.touch_and_wait, (began, never))
        until(began.exists)
        assert result.cancel()
        with pytest.raises(CancelledError):
            result.get(PATIENCE)
        many = pool.map_async(tasks.sleep, [1000] * 10, chunksize=1)
        assert many.cancel()
        with pytest.raises(CancelledError):
            many.get(PATIENCE)
        assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]


def test_cancel_all_gives_up_everything(cluster):
    from concurrent.futures import CancelledError

    with cluster.Pool() as pool:
        results = [pool.apply_async(tasks.sleep, (1000,)) for _ in range(20)]
        assert pool.cancel_all() == 20
        for result in results:
            with pytest.raises(CancelledError):
                result.get(PATIENCE)
        assert pool.apply(tasks.square, (3,)) == 9


def test_terminate_ends_calls_that_run(cluster, tmp_path):
    began = tmp_path / "began"
    pool = cluster.Pool()
    result = pool.apply_async(tasks.touch_and_wait, (began, tmp_path / "never"))
    until(began.exists)
    pool.terminate()
    pool.join()
    with pytest.raises(mp.PoolBrokenError, match="terminated"):
        result.get(PATIENCE)


def test_results_can_be_awaited(cluster):
    async def main():
        one = await pool.apply_async(tasks.square, (5,))
        many = await pool.map_async(tasks.square, range(5))
        return one, many, [value async for value in pool.imap(tasks.square, range(5))]

    with cluster.Pool() as pool:
        assert asyncio.run(main()) == (25, [0, 1, 4, 9, 16], [0, 1, 4, 9, 16])


def test_an_input_is_read_no_further_ahead_than_its_window(cluster):
    read = []

    def items():
        for n in range(1000):
            read.append(n)
            yield n

    with cluster.Pool() as pool:
        results = pool.imap(tasks.square, items(), buffersize=10)
        for n in range(20):
            assert next(results) == n * n
            assert len(read) <= n + 1 + 10 + 1
        del results


def test_big_arrays_go_and_come_without_harm(cluster):
    numpy = pytest.importorskip("numpy")
    with cluster.Pool() as pool:
        arrays = [numpy.full(500_000, n, dtype=float) for n in range(6)]
        for n, array in enumerate(pool.imap(tasks.double, arrays)):
            assert array.shape == (500_000,) and (array == 2 * n).all()
            array[0] = 1  # it may be written to


def test_an_executor_over_a_cluster(cluster):
    with ProcessPoolExecutor(mp_context=cluster) as executor:
        assert executor.submit(tasks.add, 1, b=2).result(PATIENCE) == 3
        assert list(executor.map(tasks.add, range(5), range(5))) == [0, 2, 4, 6, 8]
        with pytest.raises(ValueError):
            executor.submit(tasks.fail_at, 1, 1).result(PATIENCE)


def test_two_pools_do_not_disturb_each_other(cluster):
    with cluster.Pool(initializer=tasks.begin, initargs=("a",)) as a, cluster.Pool() as b:
        slow = a.map_async(tasks.sleep, [0.2] * 2, chunksize=1)
        assert b.map(tasks.square, range(100)) == [n * n for n in range(100)]
        assert b.apply(tasks.what_begun)[0] == []
        assert slow.get(PATIENCE) == [0.2, 0.2]


def test_an_array_of_many_calls_is_sent_to_a_node_once_and_changes_are_seen(cluster):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(500_000, dtype=float)
    with cluster.Pool(1) as pool:
        (link,) = pool._engine.links.values()
        sent = []
        link.tell = lambda *message, tell=link.tell: (sent.append(message), tell(*message))
        for n in range(5):
            assert pool.apply(tasks.total, (array, n)) == array.sum() + n
        whole = [m for m in sent if any(getattr(part, "nbytes", 0) == array.nbytes for part in m)]
        assert len(sent) == 5 and len(whole) == 1  # after that it is named
        array[0] = 7
        assert pool.apply(tasks.total, (array, 0)) == array.sum()
        assert pool.map(partial(tasks.total, n=1), [array] * 8, chunksize=1) == [array.sum() + 1] * 8
        results = [pool.apply_async(tasks.total, (array + n, 0)) for n in range(8)]
        assert [result.get(PATIENCE) for result in results] == [(array + n).sum() for n in range(8)]


def test_data_that_a_node_keeps_is_bounded(monkeypatch):
    from procession._cluster import common

    numpy = pytest.importorskip("numpy")
    monkeypatch.setattr(common, "_MOST_KEPT", 250_000)
    kept, seen, data = common.Kept(), common.Seen(), [numpy.full(100_000, n, dtype="B") for n in range(4)]
    seen.marked([memoryview(part) for part in data])
    told = []
    for part in seen.marked([memoryview(part) for part in data]):
        told += [message[0] for message in kept.messages([b"", part])]
    assert told == ["keep", "keep", "keep", "drop", "keep", "drop"]
