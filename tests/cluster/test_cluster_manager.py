"""Managers over a cluster: the server is on the client's machine, and nodes use its objects through TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl

import pytest

import cluster_nodes
import cluster_processes as work
import procession as mp
from deadlines import PATIENCE, until


def until_written(path):
    return until(lambda: path.exists() and path.read_text())


@pytest.fixture
def manager(cluster):
    with cluster.Manager() as found:
        yield found


def test_objects_of_a_manager_are_used_from_processes_of_nodes(cluster, manager):
    parts = manager.dict(), manager.Queue(), manager.list(), manager.Namespace(), manager.Lock()
    process = cluster.Process(target=work.fill, args=(parts,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    made, queue, shared, space, _ = parts
    assert made.copy() == {"pid": process.pid}
    assert queue.get(timeout=PATIENCE) == "done"
    assert list(shared) == [1] and space.text == "hello"


def test_objects_of_a_manager_are_used_from_a_pool(cluster, manager):
    shared = manager.list()
    with cluster.Pool() as pool:
        pool.map(shared.append, range(10))
    assert sorted(shared) == list(range(10))


def test_the_server_speaks_tls_only(manager):
    with socket.create_connection(manager.address, PATIENCE) as sock:
        sock.settimeout(PATIENCE)
        sock.sendall(b"x" * 100)
        with contextlib.suppress(ConnectionResetError):
            answer = sock.recv(100)
            assert answer == b"" or answer[0] == 21  # an alert of TLS
    context = ssl.create_default_context()
    with socket.create_connection(manager.address, PATIENCE) as sock, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(sock, server_hostname=manager.address[0])


def test_references_of_a_killed_node_end(nodes, tmp_path):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        with cluster.Manager() as manager:
            made = manager.dict()
            assert manager._number_of_objects() == 1
            process = cluster.Process(target=work.keep, args=(made, tmp_path / "pid"), node="node-0")
            process.start()
            until_written(tmp_path / "pid")
            del made
            assert manager._number_of_objects() == 1
            cluster_nodes.kill(nodes.nodes[0])
            until(lambda: manager._number_of_objects() == 0)


def test_an_item_is_not_given_to_a_dead_process_of_a_node(cluster, manager, tmp_path):
    queue = manager.Queue()
    process = cluster.Process(target=work.take, args=(queue, tmp_path / "pid"))
    process.start()
    os.kill(int(until_written(tmp_path / "pid")), signal.SIGKILL)
    process.join(PATIENCE)
    queue.put("kept")
    assert queue.get(timeout=PATIENCE) == "kept"


def test_a_dead_manager_is_an_error_on_the_node(cluster):
    manager = cluster.Manager()
    made = manager.dict()
    os.kill(manager._process.pid, signal.SIGKILL)
    manager.join(PATIENCE)
    process = cluster.Process(target=work.length, args=(made,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 1
    assert isinstance(process.exception, (OSError, EOFError))
