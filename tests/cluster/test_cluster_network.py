"""Clusters with certificates, and a network that is cut."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from functools import partial
from queue import Empty

import pytest

import cluster_queue_tasks as queue_tasks
import cluster_tasks as tasks
import procession as mp
from cluster_nodes import Nodes
from deadlines import PATIENCE, until


def test_a_pool_over_tls_needs_the_certificates(tmp_path):
    pytest.importorskip("cryptography")
    from distributed.security import Security

    security = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key"):
        files[name] = tmp_path / name
        files[name].write_text(getattr(security, name))
    options = [
        *("--protocol", "tls", "--tls-ca-file", str(files["tls_ca_file"])),
        *("--tls-cert", str(files["tls_scheduler_cert"]), "--tls-key", str(files["tls_scheduler_key"])),
    ]
    with Nodes(tmp_path, options=options) as nodes:
        assert nodes.address.startswith("tls://")
        with mp.cluster(nodes.address, security=security) as cluster, nodes.ready(cluster).Pool() as pool:
            assert pool.map(tasks.square, range(1000)) == [n * n for n in range(1000)]
            queue = cluster.Queue()
            for node in ("node-0", "node-1"):  # messages and big ones, which nodes and the client fetch
                args = (queue, [10, 2_000_000], tmp_path / node)
                cluster.Process(target=queue_tasks.put_big_and_wait, args=args, node=node, daemon=True).start()
                until((tmp_path / node).exists)
            found = pool.apply(queue_tasks.take, (queue, 2)) + queue_tasks.take(queue, 2)
            assert [len(data) for _, data in found] == 2 * [10, 2_000_000]
            lock = cluster.Lock()
            assert pool.apply(tasks.try_lock, (lock,)) and lock.locked()
        with pytest.raises((ConnectionError, TypeError, ValueError)):
            mp.cluster(nodes.address, security=Security.temporary(), node_timeout=2)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def cable(request):
    """A namespace with a network of its own, by a pair of interfaces: (its name, this side's interface and address)."""
    if shutil.which("ip") is None:
        pytest.skip("NOT TESTED: there is no `ip` to make a network namespace")
    mark = f"{time.monotonic_ns() % 100_000_000}"
    name, here, there = f"pr{mark}", f"ph{mark}", f"pt{mark}"
    number = int(mark) % 200 + 20
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT TESTED: no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"10.213.{number}.1/24", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"10.213.{number}.2/24", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name, here, f"10.213.{number}.1", f"10.213.{number}.2"
    finally:
        ip("netns", "del", name)


@pytest.mark.root
def test_tasks_beyond_a_cut_cable_run_again_elsewhere(cable, tmp_path):
    name, here, near, far = cable
    log = tmp_path / "log"
    log.mkdir()
    with Nodes(tmp_path, 1, host=near) as nodes:
        nodes.add(prefix=["ip", "netns", "exec", name], host=far)
        with mp.cluster(nodes.address, insecure=True, node_timeout=3) as cluster:
            nodes.ready(cluster)
            with cluster.Pool(retries=1) as pool:
                until(lambda: len(pool.statistics()) == 2)
                result = pool.map_async(partial(tasks.logged, log, seconds=0.01), range(400), chunksize=1)
                until(lambda: len(list(log.iterdir())) == 2)
                ip("link", "set", here, "down")
                assert result.get(2 * PATIENCE) == list(range(400))
                assert max(tasks.runs(log).values()) <= 2
        nodes.nodes[1].send_signal(signal.SIGKILL)


@pytest.mark.root
@pytest.mark.slow
def test_a_holder_beyond_a_cut_cable_keeps_its_lock_until_its_node_is_removed(cable, tmp_path):
    name, here, near, far = cable
    with Nodes(tmp_path, 1, host=near, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="3 seconds") as nodes:
        nodes.add(prefix=["ip", "netns", "exec", name], host=far)
        with mp.cluster(nodes.address, insecure=True, node_timeout=3) as cluster:
            nodes.ready(cluster)
            lock, ready = cluster.Lock(), cluster.Event()
            holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), node="node-1")
            holder.start()
            assert ready.wait(PATIENCE)
            ip("link", "set", here, "down")
            assert not lock.acquire(timeout=0.5)
            with pytest.raises(mp.OwnerDiedError, match="node-1"):
                lock.acquire(timeout=2 * PATIENCE)
            assert lock.acquire(timeout=PATIENCE)
        nodes.nodes[1].send_signal(signal.SIGKILL)


@pytest.mark.root
def test_messages_from_beyond_a_cut_cable_are_delivered_and_big_ones_lost_when_the_node_is_removed(cable, tmp_path):
    name, here, near, far = cable
    with Nodes(tmp_path, 1, host=near, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="3 seconds") as nodes:
        nodes.add(prefix=["ip", "netns", "exec", name], host=far)
        with mp.cluster(nodes.address, insecure=True, node_timeout=3) as cluster:
            nodes.ready(cluster)
            queue, other = cluster.Queue(), cluster.Queue()
            args = (queue, [10, 2_000_000, 20], tmp_path / "put")
            cluster.Process(target=queue_tasks.put_big_and_wait, args=args, node="node-1").start()
            until((tmp_path / "put").exists)
            waits = cluster.Process(target=queue_tasks.take_and_note, args=(other, tmp_path / "never"), node="node-1")
            waits.start()
            until(lambda: other._call("facts")["waiters"])
            ip("link", "set", here, "down")
            assert len(queue.get(timeout=PATIENCE)[1]) == 10
            with pytest.raises(Empty):
                queue.get(timeout=0.5)  # it may still be had there
            with pytest.raises(mp.MessageLostError, match=r"2,000,\d\d\d bytes is lost: it was at the node tcp://"):
                queue.get(timeout=2 * PATIENCE)
            assert len(queue.get(timeout=PATIENCE)[1]) == 20
            until(lambda: not other._call("facts")["waiters"])
            other.put(1)
            assert other.get(timeout=PATIENCE) == 1
        nodes.nodes[1].send_signal(signal.SIGKILL)
