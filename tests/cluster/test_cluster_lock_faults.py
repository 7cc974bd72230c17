"""Locks of a cluster when processes are stopped, the network is cut, or the scheduler or the client has gone."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import cluster_tasks as tasks
import procession as mp
from cluster_nodes import Nodes, kill
from deadlines import PATIENCE, until
from procession._cluster.sync.client import _why_not
from waiting import in_thread

IMPATIENT = {  # what Dask waits for, in seconds
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "2 seconds",
    "DASK_DISTRIBUTED__SCHEDULER__LOCKS__LEASE_TIMEOUT": "1 seconds",
    "DASK_DISTRIBUTED__SCHEDULER__LOCKS__LEASE_VALIDATION_INTERVAL": "0.5 seconds",
}


@pytest.mark.slow
def test_a_stopped_holder_keeps_its_lock_for_longer_than_any_timeout(tmp_path):
    with Nodes(tmp_path, 1, **IMPATIENT) as nodes, mp.cluster(nodes.address, node_timeout=2) as cluster:
        nodes.ready(cluster)
        lock, ready = cluster.Lock(), cluster.Event()
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready))
        holder.start()
        assert ready.wait(PATIENCE)
        os.kill(holder.pid, signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() - began < 4:
            assert not lock.acquire(timeout=0.5)
        os.kill(holder.pid, signal.SIGCONT)
        assert holder.is_alive()
        holder.kill()
        with pytest.raises(mp.OwnerDiedError):
            lock.acquire(timeout=PATIENCE)
        holder.join()


@pytest.mark.slow
def test_a_node_that_is_stopped_keeps_its_locks_until_it_is_no_member_any_more(tmp_path):
    with Nodes(tmp_path, 2, **IMPATIENT) as nodes, mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        lock, ready = cluster.Lock(), cluster.Event()
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), node="node-1")
        holder.start()
        assert ready.wait(PATIENCE)
        kill(nodes.nodes[1], signal.SIGSTOP)
        with pytest.raises(mp.OwnerDiedError):
            lock.acquire(timeout=PATIENCE)
        until(lambda: len(cluster.nodes()) < 2)
        assert lock.acquire(timeout=PATIENCE)
        kill(nodes.nodes[1], signal.SIGKILL)


def test_the_death_of_the_scheduler_ends_each_wait_with_an_error_at_once(whole):
    with mp.cluster(whole.address) as cluster:
        whole.ready(cluster)
        lock, event = cluster.Lock(), cluster.Event()
        lock.acquire()
        with in_thread(lambda: tasks.acquire_outcome(lock, event)) as notes:
            assert event.wait(PATIENCE)
            until(lambda: lock.statistics().waiters == 1)
            began = time.monotonic()
            kill(whole.scheduler)
        assert notes[0][0] == "ConnectionError" and "has gone" in notes[0][1]
        assert time.monotonic() - began < PATIENCE / 4
        for call in (lock.release, event.set, lock.locked):
            with pytest.raises(ConnectionError, match="has gone"):
                call()
        assert "unknown" in repr(lock)
        with pytest.raises((ConnectionError, mp.PoolBrokenError), match="has gone"):
            cluster.Lock()


def wait_with(condition):
    with condition:
        condition.wait()


def test_after_a_restart_of_the_scheduler_old_objects_say_that_it_has_ended_and_new_ones_work(whole):
    with mp.cluster(whole.address) as cluster:
        whole.ready(cluster)
        event, barrier, condition = cluster.Event(), cluster.Barrier(2), cluster.Condition()
        semaphore, lock = cluster.Semaphore(0), cluster.RLock()
        queue, joinable, simple = cluster.Queue(), cluster.JoinableQueue(), cluster.SimpleQueue()
        full = cluster.Queue(1)
        joinable.put(1)
        full.put(1)
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, event), daemon=True)
        holder.start()
        assert event.wait(PATIENCE)
        event.clear()
        waits = [event.wait, barrier.wait, semaphore.acquire, lock.acquire, queue.get, joinable.join, simple.get]
        waits += [partial(full.put, 2), partial(wait_with, condition)]
        with ThreadPoolExecutor(len(waits)) as threads:
            outcomes = [threads.submit(wait) for wait in waits]
            every = (event, barrier, semaphore, lock, queue, joinable, simple, full, condition)
            until(lambda: all(each._call("facts")["waiters"] for each in every))
            whole.restart()
            for outcome in outcomes:
                with pytest.raises(ConnectionError, match=r"the scheduler at .* has gone"):
                    outcome.result(PATIENCE)
        assert holder.join(PATIENCE) is None and isinstance(holder.exception, mp.NodeDiedError)
    whole.add()
    with mp.cluster(whole.address) as cluster:
        until(cluster.nodes)
        again, fresh = cluster.Lock(), cluster.Queue()
        with again, pytest.raises(ConnectionError, match=r"the scheduler at .* has gone"):
            lock.acquire()
        with pytest.raises(ConnectionError, match=r"the scheduler at .* has gone"):
            pickle.loads(pickle.dumps(queue)).get()
        with cluster.Pool(1) as pool:
            assert pool.apply(tasks.take_and_give, (again, fresh)) == 7
            with pytest.raises(ConnectionError, match="of a scheduler that has ended"):
                pool.apply(tasks.take_and_give, (lock, fresh))


def test_a_scheduler_that_is_stopped_is_an_error_after_the_timeout(whole):
    with mp.cluster(whole.address, node_timeout=1) as cluster:
        whole.ready(cluster)
        event = cluster.Event()
        kill(whole.scheduler, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectionError, match="silent"):
                event.wait()
        finally:
            kill(whole.scheduler, signal.SIGCONT)


def test_a_closed_context_is_an_error_for_its_objects(shared_nodes):
    with mp.cluster(shared_nodes.address) as cluster:
        lock = cluster.Lock()
    with pytest.raises(ConnectionError, match="closed"):
        lock.acquire()
    with pytest.raises(ValueError, match="closed"):
        cluster.Lock()


def test_an_object_keeps_its_connection_open_until_nothing_refers_to_it(shared_nodes):
    context = mp.cluster(shared_nodes.address)
    lock, members = context.Lock(), context.members()
    del context
    gc.collect()
    with lock, mp.cluster(shared_nodes.address) as other:
        assert other.Lock().acquire()
    assert pickle.loads(pickle.dumps(lock)).acquire()  # through the first connection again
    assert members._lost is None
    del lock
    gc.collect()
    until(lambda: members._lost is not None)


def test_a_cluster_inside_this_program_has_locks_too():
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as local,
        mp.cluster(local) as cluster,
        cluster.Pool() as pool,
    ):
        lock = cluster.Lock()
        with lock:
            assert not pool.apply(tasks.try_lock, (lock,))
        assert pool.apply(tasks.try_lock, (lock,))


def test_a_scheduler_without_procession_is_refused_with_one_sentence():
    assert _why_not([["3", "11"], None, "1"], "tcp://here:1") == (
        "the scheduler at tcp://here:1 keeps the locks and queues of the cluster, and has no Procession: install"
        f" Procession {mp.__version__} there"
    )
    assert "has Procession 0.1, and this program" in str(_why_not([["3", "11"], "0.1", "1"], "here"))
    ours = [str(part) for part in sys.version_info[:2]]
    assert "Python 2.7, and this program" in str(_why_not([["2", "7"], mp.__version__, "1"], "here"))
    assert _why_not([ours, mp.__version__, "1"], "here") is None


def test_the_death_of_a_client_frees_what_it_held(cluster, shared_nodes, tmp_path):
    program = f"""
        import os, pickle, time
        import procession as mp
        c = mp.cluster({shared_nodes.address!r})
        lock = c.Lock()
        lock.acquire()
        with open("new", "wb") as file:
            file.write(pickle.dumps(lock))
        os.rename("new", "handle")
        time.sleep(1000)
    """
    cluster.Event()  # this process has a relay of its own
    client = subprocess.Popen([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], cwd=tmp_path)
    try:
        until((tmp_path / "handle").exists, 2 * PATIENCE)
        lock = pickle.loads((tmp_path / "handle").read_bytes())
        assert not lock.acquire(timeout=0.1)
    finally:
        client.kill()
        client.wait()
    with pytest.raises(mp.OwnerDiedError):
        lock.acquire(timeout=PATIENCE)
    assert lock.acquire(False)


def test_a_holder_that_is_killed_is_told_at_once(cluster):
    lock, ready = cluster.Lock(), cluster.Event()

    def once():
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready))
        holder.start()
        assert ready.wait(PATIENCE)
        ready.clear()
        killed = []
        with in_thread(lambda: tasks.acquire_outcome(lock, ready) and time.monotonic()) as notes:
            until(lambda: lock.statistics().waiters == 1)
            killed.append(time.monotonic())
            holder.kill()
        ready.clear()
        holder.join()
        return notes[0] - killed[0]

    assert min(once() for _ in range(3)) < 0.5
