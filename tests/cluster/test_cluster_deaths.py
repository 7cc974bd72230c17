"""Who dies, and what the caller sees: every row with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

import cluster_tasks as tasks
import procession as mp
from cluster_nodes import is_alive, kill
from deadlines import PATIENCE, until
from procession.futures import ProcessPoolExecutor, WorkerDiedError


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def outcomes(pool, function, items, **options):
    """The result or the error of each item."""
    found = []
    results = [pool.apply_async(function, (item,), **options) for item in items]
    for result in results:
        try:
            found.append(result.get(3 * PATIENCE))
        except Exception as error:
            found.append(error)
    return found


def test_a_worker_that_dies_fails_its_task_alone(cluster, log):
    with cluster.Pool() as pool:
        with pytest.raises(mp.WorkerDiedError, match=r"on node node-.*SIGKILL") as caught:
            pool.apply(tasks.die_once, (log, 1))
        assert not isinstance(caught.value, mp.NodeDiedError)
        assert caught.value.function == "die_once"
        assert pool.map(tasks.square, range(10)) == [n * n for n in range(10)]
        assert pool.apply_async(tasks.die_once, (log, 2), retries=1).get(PATIENCE) == 2
        assert pool.map(partial(tasks.die_once, log), [3, 4, 5], chunksize=1, retries=1) == [3, 4, 5]


def test_without_retries_the_tasks_of_a_killed_node_fail_and_none_is_run_twice(nodes, log):
    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:
        results = [pool.apply_async(tasks.logged, (log, n, 0.01)) for n in range(200)]
        until(lambda: len(tasks.runs(log)) > 20)
        kill(nodes.nodes[0])
        lost = []
        for n, result in enumerate(results):
            try:
                assert result.get(PATIENCE) == n
            except mp.NodeDiedError as error:
                lost.append(n)
                assert "may have run" in str(error)
                assert (error.node, error.pid) == ("node-0", nodes.nodes[0].pid)
        assert 0 < len(lost) < 100
        ran = tasks.runs(log)
        assert set(ran.values()) == {1}
        assert set(range(200)) - set(lost) <= set(ran)


def test_with_retries_all_results_of_a_map_are_right_when_a_node_is_killed(nodes, log):
    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool(retries=1) as pool:
        result = pool.map_async(partial(tasks.logged, log, seconds=0.005), range(400), chunksize=4)
        until(lambda: len(tasks.runs(log)) > 40)
        kill(nodes.nodes[1])
        assert result.get(2 * PATIENCE) == list(range(400))
        assert max(tasks.runs(log).values()) <= 2


def test_an_executor_s_future_of_a_dead_node_fails_with_its_errors(nodes, tmp_path):
    began = tmp_path / "began"
    with mp.cluster(nodes.address) as cluster, ProcessPoolExecutor(1, nodes.ready(cluster)) as executor:
        future = executor.submit(tasks.touch_and_wait, began, tmp_path / "never")
        until(began.exists)
        for node in nodes.nodes:
            kill(node)
        with pytest.raises(mp.NodeDiedError) as caught:
            future.result(PATIENCE)
        assert isinstance(caught.value, WorkerDiedError)
        executor.kill_workers()


def test_the_workers_of_a_killed_node_end(nodes):
    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:
        pids = {row.pid for row in pool.statistics()}
        for node in nodes.nodes:
            kill(node)
        until(lambda: not any(map(is_alive, pids)))
        pool.terminate()


def test_a_stopped_node_is_given_up_after_the_timeout(nodes, log):
    with mp.cluster(nodes.address, node_timeout=3) as cluster, nodes.ready(cluster).Pool() as pool:
        until(lambda: len(pool.statistics()) == 2)  # on a busy machine one may have been given up already
        results = [pool.apply_async(tasks.logged, (log, n, 0.01)) for n in range(200)]
        until(lambda: len(tasks.runs(log)) > 10)
        kill(nodes.nodes[0], signal.SIGSTOP)
        stopped = time.monotonic()
        errors = []
        for result in results:
            try:
                result.get(PATIENCE)
            except mp.NodeDiedError as error:
                errors.append(error)
        assert errors and "silent" in str(errors[0])
        assert time.monotonic() - stopped > 1
        assert set(tasks.runs(log).values()) == {1}
        kill(nodes.nodes[0], signal.SIGCONT)  # it comes back, and is used again
        until(lambda: len(pool.statistics()) == 2, 2 * PATIENCE)
        assert pool.map(tasks.square, range(100)) == [n * n for n in range(100)]


def test_a_pool_without_nodes_is_broken_after_the_timeout(nodes, tmp_path):
    began = tmp_path / "began"
    with mp.cluster(nodes.address, node_timeout=1) as cluster, nodes.ready(cluster).Pool(retries=5) as pool:
        result = pool.apply_async(tasks.touch_and_wait, (began, tmp_path / "never"))
        until(began.exists)
        for node in nodes.nodes:
            kill(node)
        with pytest.raises(mp.PoolBrokenError, match="no node for 1 seconds"):
            result.get(PATIENCE)
        with pytest.raises(mp.PoolBrokenError, match="no node"):
            pool.map(tasks.square, range(3))


def test_an_idle_pool_outlives_all_its_nodes_and_uses_new_ones(nodes):
    with mp.cluster(nodes.address, node_timeout=PATIENCE) as cluster, nodes.ready(cluster).Pool() as pool:
        assert pool.apply(tasks.square, (2,)) == 4
        for node in nodes.nodes:
            kill(node)
        until(lambda: not cluster.nodes())
        nodes.add()
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_dead_scheduler_breaks_the_pool_at_once(whole, tmp_path):
    began = tmp_path / "began"
    with mp.cluster(whole.address) as cluster, whole.ready(cluster).Pool() as pool:
        result = pool.apply_async(tasks.touch_and_wait, (began, tmp_path / "never"))
        until(began.exists)
        killed = time.monotonic()
        kill(whole.scheduler)
        with pytest.raises(mp.PoolBrokenError, match=r"scheduler at .* has gone"):
            result.get(PATIENCE)
        assert time.monotonic() - killed < PATIENCE / 4
        with pytest.raises(mp.PoolBrokenError):
            cluster.Pool()


def test_what_a_dead_client_has_sent_is_ended_or_not_begun(nodes, log, tmp_path):
    program = (
        "import sys, cluster_tasks as tasks, procession as mp\n"
        "if __name__ == '__main__':\n"
        "    with mp.cluster(sys.argv[1]) as c, c.Pool() as pool:\n"
        "        for n in range(50):\n"
        "            pool.apply_async(tasks.logged, (sys.argv[2], n, 1000))\n"
        "        pool.apply_async(print).wait()\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, nodes.address, str(log)],
        env=nodes.environment,
        stderr=subprocess.DEVNULL,
    )
    with client:
        try:
            pids = until(lambda: len(found := [int(name) for name in os.listdir(log)]) == 2 and found, 3 * PATIENCE)
        finally:
            kill(client)
    until(lambda: not any(map(is_alive, pids)))
    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:  # the nodes are free again
        assert pool.map(tasks.square, range(100)) == [n * n for n in range(100)]
    assert len(tasks.runs(log)) == 2


def test_a_finished_result_outlives_its_node(nodes):
    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:
        results = [pool.apply_async(tasks.square, (n,)) for n in range(10)]
        until(lambda: all(result.ready() for result in results))
        for node in nodes.nodes:
            kill(node)
        assert [result.get(0) for result in results] == [n * n for n in range(10)]
        pool.terminate()


def test_a_node_that_joins_late_takes_part_and_runs_the_initializer(nodes):
    with (
        mp.cluster(nodes.address) as cluster,
        nodes.ready(cluster).Pool(initializer=tasks.begin, initargs=("late",)) as pool,
    ):
        results = pool.imap_unordered(tasks.slow_what_begun, range(100_000))
        first = {next(results)[1] for _ in range(20)}
        nodes.add()
        seen = set()

        def third():
            begun, pid = next(results)
            assert begun == ["late"]
            seen.add(pid)
            return len(seen | first) == 3

        until(third)
        pool.terminate()


def test_a_node_that_leaves_in_good_order_loses_no_task(nodes, log):
    from distributed import Client

    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:
        mapped = pool.map_async(partial(tasks.logged, log, seconds=0.01), range(200), chunksize=1)
        single = [pool.apply_async(tasks.logged, (log, n, 0.01)) for n in range(200, 400)]
        until(lambda: len(tasks.runs(log)) > 20)
        with Client(nodes.address, set_as_default=False) as client:
            client.retire_workers([cluster.nodes()[0].address])
        assert mapped.get(2 * PATIENCE) == list(range(200))
        assert [result.get(2 * PATIENCE) for result in single] == list(range(200, 400))
        assert set(tasks.runs(log).values()) == {1}
        until(lambda: len(cluster.nodes()) == 1)


def test_a_node_that_leaves_sends_its_big_results_first(nodes, log):
    from distributed import Client

    with mp.cluster(nodes.address) as cluster, nodes.ready(cluster).Pool() as pool:
        for _ in range(3):
            mapped = pool.imap(partial(tasks.big, folder=log), range(30))
            next(mapped)
            leaver = cluster.nodes()[0]
            with Client(nodes.address, set_as_default=False) as client:
                client.retire_workers([leaver.address])
            assert sum(map(len, mapped)) == 29 * 5_000_000
            nodes.add()
            until(lambda: len(found := cluster.nodes()) == 2 and leaver not in found, 2 * PATIENCE)  # noqa: B023
        assert set(tasks.runs(log).values()) == {3}


def test_ctrl_c_ends_a_map_and_what_it_runs(nodes, log):
    program = (
        "import sys, functools, cluster_tasks as tasks, procession as mp\n"
        "if __name__ == '__main__':\n"
        "    with mp.cluster(sys.argv[1]) as c, c.Pool() as pool:\n"
        "        pool.map(functools.partial(tasks.logged, sys.argv[2], seconds=1000), range(50), chunksize=1)\n"
    )
    client = subprocess.Popen(
        [sys.executable, "-c", program, nodes.address, str(log)],
        env=nodes.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with client:
        try:
            pids = until(lambda: len(found := [int(name) for name in os.listdir(log)]) == 2 and found, 3 * PATIENCE)
            client.send_signal(signal.SIGINT)
            _, err = client.communicate(timeout=2 * PATIENCE)
        finally:
            kill(client)
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    until(lambda: not any(map(is_alive, pids)))


def test_retries_count_the_deaths_of_workers_and_of_nodes_together(nodes, log):
    with mp.cluster(nodes.address) as cluster:
        kill(nodes.nodes[1])
        nodes.ready(cluster)
        with cluster.Pool() as pool:
            result = pool.apply_async(tasks.die_and_kill_the_node, (log, nodes.nodes[0].pid, 1), retries=1)
            with pytest.raises(mp.NodeDiedError):
                result.get(3 * PATIENCE)
        assert tasks.runs(log) == {1: 2}


def test_a_node_that_is_stopped_holds_up_neither_the_connection_nor_an_upload(nodes, tmp_path):
    kill(nodes.nodes[0], signal.SIGSTOP)
    try:
        with mp.cluster(nodes.address, node_timeout=2.0) as cluster:
            until(lambda: [node.pid for node in cluster.nodes()] == [nodes.nodes[1].pid])
            kill(nodes.nodes[0], signal.SIGCONT)
            nodes.ready(cluster)
            kill(nodes.nodes[0], signal.SIGSTOP)
            (tmp_path / "file").write_text("")
            with pytest.raises(TimeoutError):
                cluster.upload(tmp_path / "file")
            with pytest.raises(mp.NodeDiedError):
                cluster.Process(target=tasks.pid, node="node-0").start()
    finally:
        kill(nodes.nodes[0], signal.SIGCONT)


def test_a_program_that_was_suspended_loses_no_task(nodes, tmp_path):
    program = f"""
import os
import procession as mp
import cluster_tasks as tasks
if __name__ == "__main__":
    with mp.cluster({nodes.address!r}, node_timeout=1.0) as c, c.Pool() as pool:
        result = pool.map_async(tasks.sleep, [0.2] * 20)
        open({str(tmp_path / "began")!r}, "w").close()
        result.get()
"""
    path = tmp_path / "program.py"
    path.write_text(program)
    client = subprocess.Popen([sys.executable, "-W", "ignore", str(path)], env=nodes.environment)
    try:
        until((tmp_path / "began").exists, 2 * PATIENCE)
        client.send_signal(signal.SIGSTOP)
        time.sleep(3)  # longer than the client's timeout
        client.send_signal(signal.SIGCONT)
        assert client.wait(3 * PATIENCE) == 0
    finally:
        client.kill()
