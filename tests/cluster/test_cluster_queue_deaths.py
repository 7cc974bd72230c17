"""What becomes of the messages of a cluster's queues when processes, nodes or the scheduler die, or stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from queue import Empty

import pytest

import cluster_queue_tasks as tasks
import procession as mp
from cluster_nodes import kill
from deadlines import PATIENCE, until


def on(cluster, node, target, *args):
    """Starts a process on a node."""
    process = cluster.Process(target=target, args=args, node=f"node-{node}", daemon=True)
    process.start()
    return process


def waiting(queue):
    """How many requests wait for the queue."""
    return len(queue._call("facts")["waiters"])


def left_in(queue):
    """Takes all items until none comes for a second."""
    found = []
    while True:
        try:
            found += queue.get_many(10_000, timeout=1)
        except Empty:
            return found


def test_what_a_killed_producer_has_put_is_delivered_in_order(cluster, tmp_path):
    queue = cluster.Queue()
    producer = on(cluster, 0, tasks.produce, queue, 0, 1_000_000)
    until(lambda: queue.qsize() > 300)
    producer.kill()
    producer.join(PATIENCE)
    found = left_in(queue)
    assert [n for _, n in found] == list(range(len(found)))


def test_what_was_put_on_a_node_that_dies_is_delivered_in_order(nodes, tmp_path):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        queue = cluster.Queue()
        on(cluster, 0, tasks.produce, queue, 0, 1_000_000)
        until(lambda: queue.qsize() > 300)
        kill(nodes.nodes[0])
        until(lambda: len(cluster.nodes()) == 1)
        found = left_in(queue)
        assert [n for _, n in found] == list(range(len(found)))


def test_a_consumer_that_is_killed_while_it_waits_takes_nothing_along(cluster, tmp_path):
    queue = cluster.Queue()
    consumer = on(cluster, 0, tasks.take_and_note, queue, tmp_path / "never")
    until(lambda: waiting(queue) == 1)
    os.kill(consumer.pid, signal.SIGKILL)  # at once: kill() of a process on a node takes a message
    queue.put("kept")  # may be sent to the dead process
    assert queue.get(timeout=PATIENCE) == "kept"
    assert not (tmp_path / "never").exists()


def test_a_message_that_kills_its_consumers_is_dropped_after_the_second_one(cluster, tmp_path):
    queue = cluster.Queue()
    consumers = [on(cluster, n % 2, tasks.take_and_note, queue, tmp_path / str(n)) for n in range(3)]
    until(lambda: waiting(queue) == 3)
    queue.put_many([tasks.Killer(), "after"])
    until(lambda: any((tmp_path / str(n)).exists() for n in range(3)))
    until(lambda: sum(consumer.exitcode == -signal.SIGKILL for consumer in consumers) in (1, 2))
    notes = [(tmp_path / str(n)).read_text() for n in range(3) if (tmp_path / str(n)).exists()]
    assert notes == ["'after'"]
    until(lambda: sum(consumer.exitcode == -signal.SIGKILL for consumer in consumers) == 2)
    assert queue.empty()


def test_a_stopped_consumer_gets_its_message_when_it_goes_on(cluster, tmp_path):
    queue = cluster.Queue()
    path = tmp_path / "taken"
    consumer = on(cluster, 0, tasks.take_and_note, queue, path)
    until(lambda: waiting(queue) == 1)
    os.kill(consumer.pid, signal.SIGSTOP)
    try:
        queue.put_many(["its own", "another"])
        assert queue.get(timeout=PATIENCE) == "another"
        with pytest.raises(Empty):
            queue.get(timeout=0.3)
    finally:
        os.kill(consumer.pid, signal.SIGCONT)
    until(path.exists)
    assert path.read_text() == "'its own'"


def test_a_stopped_consumer_that_is_killed_takes_nothing_along(cluster, tmp_path):
    queue = cluster.Queue()
    consumer = on(cluster, 0, tasks.take_and_note, queue, tmp_path / "never")
    until(lambda: waiting(queue) == 1)
    os.kill(consumer.pid, signal.SIGSTOP)
    queue.put_many([1, 2])
    os.kill(consumer.pid, signal.SIGKILL)
    assert sorted([queue.get(timeout=PATIENCE), queue.get(timeout=PATIENCE)]) == [1, 2]


def test_a_waiting_consumer_of_a_killed_node_is_forgotten(nodes, tmp_path):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        queue = cluster.Queue()
        on(cluster, 0, tasks.take_and_note, queue, tmp_path / "never")
        until(lambda: waiting(queue) == 1)
        kill(nodes.nodes[0])
        until(lambda: waiting(queue) == 0)
        queue.put(1)
        assert queue.get(timeout=PATIENCE) == 1


def test_big_messages_of_a_killed_node_are_lost_in_their_turn_and_the_others_are_not(nodes, tmp_path):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        queue = cluster.Queue()
        on(cluster, 0, tasks.put_big_and_wait, queue, [10, 3_000_000, 20, 2_000_000, 30], tmp_path / "put")
        until((tmp_path / "put").exists)
        kill(nodes.nodes[0])
        until(lambda: len(cluster.nodes()) == 1)
        sizes = []
        for _ in range(5):
            try:
                n, data = queue.get(timeout=PATIENCE)
                sizes.append((n, len(data)))
            except mp.MessageLostError as error:
                assert error.size > 2_000_000 - 1
                assert error.node.startswith("tcp://127.0.0.1:") and error.node in str(error)
                sizes.append(None)
        assert sizes == [(0, 10), None, (2, 20), None, (4, 30)]
        queue.put_many([1, 2])
        assert queue.get_many(2) == [1, 2]


def test_big_messages_outlive_the_process_that_has_put_them(cluster, tmp_path):
    queue = cluster.Queue()
    producer = on(cluster, 0, tasks.put_big_and_wait, queue, [2_000_000] * 3, tmp_path / "put")
    until((tmp_path / "put").exists)
    producer.kill()
    producer.join(PATIENCE)
    assert [len(queue.get(timeout=PATIENCE)[1]) for _ in range(3)] == [2_000_000] * 3


def test_a_big_message_whose_node_does_not_answer_stays_in_the_queue(nodes, tmp_path):
    with mp.cluster(nodes.address, node_timeout=10 * PATIENCE) as cluster:
        nodes.ready(cluster)
        queue = cluster.Queue()
        on(cluster, 0, tasks.put_big_and_wait, queue, [2_000_000], tmp_path / "put")
        until((tmp_path / "put").exists)
        kill(nodes.nodes[0], signal.SIGSTOP)
        try:
            for call in (lambda: queue.get(timeout=0.5), queue.get_nowait):
                with pytest.raises(Empty):
                    call()
            assert queue.qsize() == 1
        finally:
            kill(nodes.nodes[0], signal.SIGCONT)
        assert len(queue.get(timeout=PATIENCE)[1]) == 2_000_000


def test_ctrl_c_ends_a_get_and_no_message_is_lost_or_doubled(cluster):
    queue = cluster.Queue()
    for n in range(30):
        taken = []
        putter = threading.Timer(0.002 * n, queue.put, (n,))
        interrupter = threading.Timer(0.0021 * n, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            putter.start()
            interrupter.start()
            while True:
                taken.append(queue.get())  # also a signal that comes directly before its system call ends it
        interrupter.join()
        putter.join()
        assert taken or [queue.get(timeout=PATIENCE)] == [n]
        assert queue.empty()


def test_ctrl_c_ends_a_put_that_waits_for_room(cluster):
    queue = cluster.Queue(1)
    queue.put(1)
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        queue.put(2)
    assert queue.get() == 1
    assert queue.empty()


def test_a_dead_scheduler_ends_all_calls_at_once(whole, tmp_path):
    with mp.cluster(whole.address) as cluster:
        whole.ready(cluster)
        queue, other = cluster.Queue(), cluster.Queue(1)
        other.put(1)
        with cluster.Pool() as pool:
            waiting_on_a_node = pool.apply_async(tasks.tell_error_of_get, (queue, str(tmp_path / "error")))
            until(lambda: waiting(queue) == 1)
            errors = []

            def wait(call):
                try:
                    call()
                except ConnectionError as error:
                    errors.append(str(error))

            threads = [threading.Thread(target=wait, args=(call,)) for call in (queue.get, lambda: other.put(2))]
            for thread in threads:
                thread.start()
            until(lambda: waiting(queue) == 2 and waiting(other) == 1)
            began = time.monotonic()
            kill(whole.scheduler)
            for thread in threads:
                thread.join(PATIENCE)
            assert time.monotonic() - began < PATIENCE / 4
            assert len(errors) == 2 and all("scheduler" in error for error in errors), errors
            with pytest.raises(ConnectionError, match="scheduler"):
                queue.put(1)
            del waiting_on_a_node
            pool.terminate()
        until((tmp_path / "error").exists)
        assert "scheduler" in (tmp_path / "error").read_text()


def test_a_queue_goes_when_no_process_and_no_message_has_it(cluster):
    keeper = cluster.Queue()
    numbers = []
    for _ in range(3):
        queue = cluster.Queue()
        queue.put(bytes(100))
        numbers.append(queue._number)
        keeper.put(queue)
    del queue

    def living():
        return [row["object"] for row in tasks.facts_of(cluster)["objects"] if row["object"] in numbers]

    assert living() == numbers
    keeper.get_many(2)
    until(lambda: living() == numbers[2:])
    del keeper
    until(lambda: not living())


def test_the_queues_of_a_program_that_was_killed_go(nodes, tmp_path):
    program = f"""
import procession as mp
if __name__ == "__main__":
    with mp.cluster({nodes.address!r}) as c:
        queue = c.Queue(name="of a dead client")
        queue.put(queue)
        queue.put(1)
        open({str(tmp_path / "made")!r}, "w").close()
        c.Queue().get()
"""
    client = subprocess.Popen([sys.executable, "-c", program], env=nodes.environment, stderr=subprocess.DEVNULL)
    with client:
        try:
            until((tmp_path / "made").exists, 3 * PATIENCE)
        finally:
            kill(client)
    with mp.cluster(nodes.address) as cluster:
        until(lambda: "of a dead client" not in [row["name"] for row in tasks.facts_of(cluster)["objects"]])
