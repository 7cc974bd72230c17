"""What travels between a program and the nodes: its values arrive as they were, and errors stay where they belong."""

from __future__ import annotations

import gc
import os
import threading

import pytest

import cluster_tasks as tasks
import procession as mp
from deadlines import PATIENCE, until


@pytest.mark.parametrize("length", [1000, 100_000])
def test_a_call_has_the_values_that_its_arguments_had_when_it_was_made(cluster, length):
    np = pytest.importorskip("numpy")

    def changing(array):
        for number in range(20):
            array[:] = number
            yield array

    with cluster.Pool() as pool:
        expected = [float(number) for number in range(20)]
        assert list(pool.imap(tasks.first_of, changing(np.zeros(length)))) == expected
        array = np.ones(length)
        results = []
        for number in range(20):
            array[:] = number
            results.append(pool.apply_async(tasks.first_of, (array,)))
        array[:] = -1
        assert [result.get(PATIENCE) for result in results] == expected


@pytest.mark.parametrize("length", [10, 1000, 100_000])
def test_arrays_can_be_written_to_on_both_sides(cluster, length):
    np = pytest.importorskip("numpy")
    with cluster.Pool() as pool:
        found = pool.apply(tasks.incremented, (np.zeros(length),))
        found[0] = 5
        assert found[0] == 5 and found[1] == 1


def test_arrays_without_elements_can_be_written_to_on_both_sides(cluster):
    numpy = pytest.importorskip("numpy")
    with cluster.Pool(1) as pool:
        for shape in ((0,), (0, 5)):
            result = pool.apply(tasks.incremented, (numpy.zeros(shape),))
            result += 1
            [result] = pool.map(tasks.incremented, [numpy.zeros(shape)])
            result += 1


def test_an_exception_class_with_a_surrogate_in_its_name_is_an_error_of_its_task_alone(cluster):
    with cluster.Pool(1) as pool:
        other = pool.apply_async(tasks.square, (3,))
        with pytest.raises(Exception, match="text"):
            pool.apply(tasks.raise_named, ("Odd\udc80",))
        assert other.get(PATIENCE) == 9
        assert pool.apply(tasks.square, (4,)) == 16


def test_texts_with_surrogates_are_errors_of_their_tasks_alone(cluster):
    with cluster.Pool(name="pool \udc80") as pool:
        results = [pool.apply_async(tasks.fail_at, (3, n), {"text": "bad \udc80"}) for n in range(6)]
        for n, result in enumerate(results):
            if n == 3:
                with pytest.raises(ValueError, match="bad \udc80"):
                    result.get(PATIENCE)
            else:
                assert result.get(PATIENCE) == n


def test_an_initializer_that_ends_its_worker_is_told_as_it_is(cluster):
    expected = pytest.raises(mp.PoolBrokenError, match="ended with exit code 3")
    with cluster.Pool(initializer=os._exit, initargs=(3,)) as pool, expected:
        pool.apply_async(tasks.pid).get(PATIENCE)


def test_a_forked_child_cannot_use_the_pool_of_its_parent(cluster):
    def use(pool, into):
        try:
            pool.apply_async(tasks.pid).get(PATIENCE)
        except RuntimeError as error:
            into.send(str(error))

    with cluster.Pool() as pool:
        pool.apply(tasks.pid)
        reader, writer = mp.Pipe(duplex=False)
        child = mp.get_context("fork").Process(target=use, args=(pool, writer))
        child.start()
        child.join(PATIENCE)
        assert "only by the process that made it" in reader.recv()


def test_a_context_that_is_dropped_ends_its_connection(shared_nodes):
    def loops():
        return {thread for thread in threading.enumerate() if thread.name.startswith("IO loop")}

    before = loops()
    context = mp.cluster(shared_nodes.address)
    with context.Pool() as pool:
        pool.map(tasks.square, [1])
    assert loops() > before
    del context, pool
    until(lambda: gc.collect() >= 0 and loops() <= before)
