"""Locks of a cluster: shared by processes on several nodes, and told when a holder dies."""

from __future__ import annotations

import os
import signal

import pytest

import cluster_tasks as tasks
import procession as mp
from deadlines import PATIENCE, until


def test_a_lock_is_shared_by_all_nodes_and_the_client(cluster):
    lock = cluster.Lock(name="shared")
    with cluster.Pool() as pool:
        with lock:
            assert lock.locked()
            assert pool.map(tasks.try_lock, [lock] * 6, chunksize=1) == [False] * 6
        assert not any(pool.starmap(tasks.add_under_lock, [(lock, n) for n in range(20)], chunksize=1))
        assert not lock.locked()
    assert lock.statistics().acquisitions == 21


def test_the_death_of_a_holder_is_told_once_to_the_next_one(cluster):
    lock, ready = cluster.Lock(name="ledger"), cluster.Event()
    holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), name="the-holder")
    holder.start()
    assert ready.wait(PATIENCE)
    assert not lock.acquire(timeout=0.01)
    holder.kill()
    with pytest.raises(
        mp.OwnerDiedError, match=r"the lock ledger, the-holder \(pid \d+ on node-\d\), was killed"
    ) as told:
        lock.acquire(timeout=PATIENCE)
    assert (told.value.pid, told.value.name, told.value.exitcode) == (holder.pid, "the-holder", -9)
    assert lock.acquire(timeout=PATIENCE)
    lock.release()
    holder.join()


def test_the_death_of_a_node_frees_what_its_processes_held(nodes):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        lock, ready = cluster.RLock(), cluster.Event()
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), node="node-1")
        holder.start()
        assert ready.wait(PATIENCE)
        os.kill(nodes.nodes[1].pid, signal.SIGKILL)
        with pytest.raises(mp.OwnerDiedError):
            lock.acquire(timeout=PATIENCE)
        assert lock.acquire(timeout=PATIENCE)


def test_the_scheduler_lets_an_object_go_when_no_process_has_it(cluster):
    event = cluster.Event(name="gone")
    assert "gone" in tasks.names_in_hub(cluster)
    del event
    until(lambda: "gone" not in tasks.names_in_hub(cluster))
