"""The queues of a cluster, between its client and processes of two nodes."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import pickle
import time
from queue import Empty, Full

import numpy
import pytest

import cluster_queue_tasks as tasks
import procession as mp
from deadlines import PATIENCE, ended, until


def on(cluster, node, target, *args):
    """Starts a process on a node."""
    process = cluster.Process(target=target, args=args, node=f"node-{node}", daemon=True)
    process.start()
    return process


def test_messages_of_tasks_arrive_in_the_order_in_which_each_put_them(cluster):
    queue = cluster.Queue()
    with cluster.Pool() as pool:
        results = [pool.apply_async(tasks.put_each, (queue, [(n, m) for m in range(20)])) for n in range(4)]
        found = [queue.get(timeout=PATIENCE) for _ in range(80)]
        assert len({result.get(PATIENCE) for result in results}) > 1
    for n in range(4):
        assert [m for k, m in found if k == n] == list(range(20))
    assert queue.empty() and queue.qsize() == 0


def test_a_task_takes_what_the_program_puts(cluster):
    queue = cluster.Queue()
    with cluster.Pool() as pool:
        result = pool.apply_async(tasks.take, (queue, 3))
        queue.put("one")
        queue.put_many(["two", {"three": [3, None, 3.0, b"3"]}])
        assert result.get(PATIENCE) == ["one", "two", {"three": [3, None, 3.0, b"3"]}]


def test_many_go_at_once(cluster):
    queue = cluster.Queue()
    with cluster.Pool() as pool:
        result = pool.apply_async(tasks.take_many, (queue, 5000))
        queue.put_many(range(5000))
        assert result.get(PATIENCE) == list(range(5000))
        assert pool.apply_async(tasks.put_all, (queue, range(5000))).get(PATIENCE)
        assert queue.qsize() == 5000
        assert queue.get_many(5000) == list(range(5000))


def test_a_queue_that_is_sent_in_a_message_is_the_same_queue(cluster):
    requests, answers = cluster.Queue(), cluster.SimpleQueue()
    workers = [on(cluster, n, tasks.answer, requests) for n in (0, 1)]
    for n in range(20):
        requests.put((n, answers))
    assert sorted(answers.get() for _ in range(20)) == [n * n for n in range(20)]
    assert answers.empty()
    requests.put_many([None, None])
    assert ended(*workers) == [0, 0]


def test_a_queue_that_is_in_a_message_alone_lives(cluster):
    outer = cluster.Queue()
    inner = cluster.Queue(name="inner")
    inner.put("kept")
    outer.put(inner)
    del inner
    with cluster.Pool() as pool:
        pool.map(tasks.touch_nothing, range(4))
    found = outer.get(timeout=PATIENCE)
    assert found.get(timeout=PATIENCE) == "kept"
    assert found.name == "inner"


def test_a_bounded_queue_lets_put_wait_on_another_machine(cluster, tmp_path):
    queue = cluster.Queue(maxsize=2)
    producer = on(cluster, 0, tasks.put_each, queue, range(10))
    until(queue.full)
    assert queue.qsize() == 2
    with pytest.raises(Full):
        queue.put_nowait("no room")
    began = time.monotonic()
    with pytest.raises(Full):
        queue.put("no room", timeout=0.2)
    assert time.monotonic() - began >= 0.2
    assert [queue.get(timeout=PATIENCE) for _ in range(10)] == list(range(10))
    assert ended(producer) == [0]
    assert (queue.maxsize, queue._maxsize) == (2, 2)


def test_a_queue_may_be_bounded_by_bytes(cluster):
    queue = cluster.Queue(maxbytes="10 kB")
    for _ in range(4):
        queue.put(bytes(2400), block=False)
    assert not queue.full()
    with pytest.raises(Full):
        queue.put(bytes(2400), block=False)
    assert queue.get_many(10) == [bytes(2400)] * 4
    queue.put(bytes(100_000))  # enters alone
    assert queue.full()
    assert len(queue.get()) == 100_000


def test_put_many_says_how_many_are_in_the_queue(cluster):
    queue = cluster.Queue(3)
    with pytest.raises(Full) as caught:
        queue.put_many(range(10), timeout=0.05)
    assert caught.value.__notes__ == ["3 items were put"]
    assert queue.get_many(10) == [0, 1, 2]

    def items():
        yield 1
        yield lambda: 1
        yield mp.Lock()

    with pytest.raises(TypeError, match="Lock is an object of this machine") as refused:
        queue.put_many(items())
    assert "2 items were put" in refused.value.__notes__
    assert queue.get() == 1
    assert queue.get()() == 1


def test_get_waits_as_long_as_it_may(cluster):
    queue = cluster.Queue()
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(True, 0), lambda: queue.get(timeout=-1)):
        with pytest.raises(Empty):
            call()
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.2)
    with pytest.raises(Empty):
        queue.get_many(3, timeout=0.1)
    assert time.monotonic() - began >= 0.3
    with pytest.raises(ValueError, match="at least one"):
        queue.get_many(0)
    with pytest.raises(TypeError):
        queue.get(timeout="3")
    queue.put(1)
    assert queue.get() == 1  # nothing has gone to the calls that have waited


def test_unfinished_items_are_counted_on_all_machines(cluster):
    queue = cluster.JoinableQueue()
    queue.join()
    queue.put_many(range(6))
    workers = [on(cluster, n, tasks.finish, queue, 3) for n in (0, 1)]
    queue.join()
    assert queue.empty()
    assert ended(*workers) == [0, 0]
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_shutdown_ends_workers_on_all_machines(cluster):
    numbers, results = cluster.Queue(), cluster.Queue()
    workers = [on(cluster, n, tasks.work_until_shut_down, numbers, results) for n in (0, 1)]
    numbers.put_many(range(20))
    until(lambda: results.qsize() == 20)
    numbers.shutdown()
    assert ended(*workers) == [0, 0]
    assert sorted(results.get_many(99)) == list(range(20))
    assert numbers.is_shutdown and not results.is_shutdown
    with pytest.raises(mp.queues.ShutDown):
        numbers.put(1)
    with pytest.raises(mp.queues.ShutDown):
        numbers.get()


def test_closed_queues_raise_as_those_of_one_machine(cluster):
    queue = cluster.Queue()
    with pytest.raises(AssertionError):
        queue.join_thread()
    queue.put(1)
    queue.close()
    assert queue.closed
    for call in (queue.get, lambda: queue.put(1), lambda: queue.get_many(1), lambda: queue.put_many([1])):
        with pytest.raises(ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        queue.empty()
    queue.join_thread()
    queue.cancel_join_thread()
    simple = cluster.SimpleQueue()
    simple.close()
    for call in (simple.get, simple.empty, lambda: simple.put(1)):
        with pytest.raises(OSError, match="is closed"):
            call()
    assert simple._reader.closed and simple._writer.closed


def test_what_cannot_be_sent_raises_in_put_and_leaves_the_queue_as_it_was(cluster):
    queue = cluster.Queue()
    for bad in (mp.Queue(), [mp.Lock()], {"a": (mp.Value("i"),)}, (n for n in "")):
        with pytest.raises(TypeError):
            queue.put(bad)
    assert queue.empty()


def test_a_message_that_is_too_big_for_a_frame_is_refused(cluster, monkeypatch):
    monkeypatch.setattr("procession._cluster.sync.messages._MOST", 1000)
    queue = cluster.Queue()
    with pytest.raises(ValueError, match=r"1,0\d\d bytes is too big for a queue of a cluster: at most 1,000"):
        queue.put(bytes(1000))
    assert queue.empty()


def test_an_item_that_cannot_be_unpickled_is_consumed_and_raises_in_its_turn(cluster):
    queue = cluster.Queue()
    queue.put_many([1, tasks.Fails(), 2])
    assert queue.get_many(9) == [1]
    with pytest.raises(RuntimeError, match="not to be had"):
        queue.get()
    assert queue.get() == 2
    assert queue.empty()


def test_a_forked_child_does_not_have_what_its_parent_has_received(cluster):
    queue, results = cluster.Queue(), cluster.Queue()
    queue.put_many([1, tasks.Fails(), 2])
    assert queue.get_many(9) == [1]  # the error and 2 are in this process
    child = mp.get_context("fork").Process(target=tasks.put_what_is_there, args=(queue, results))
    child.start()
    assert results.get(timeout=PATIENCE) == []
    assert ended(child) == [0]
    with pytest.raises(RuntimeError):
        queue.get()
    assert queue.get() == 2


def test_objects_of_the_main_module_go_by_value(cluster):
    queue = cluster.Queue()

    class Local:
        pass

    made = Local()
    made.square = lambda n: n * n
    queue.put(made)
    assert queue.get().square(3) == 9
    with cluster.Pool() as pool:
        queue.put(5)
        assert pool.apply(lambda q: q.get() + 1, (queue,)) == 6


@pytest.mark.parametrize("length", [10, 50_000, 500_000])
def test_arrays_arrive_whole_and_may_be_written_to(cluster, length):
    inbox, outbox = cluster.Queue(), cluster.Queue()
    process = on(cluster, 0, tasks.change_first, inbox, outbox)
    inbox.put(numpy.ones(length))
    assert outbox.get(timeout=PATIENCE) == (length + 6, True)
    assert ended(process) == [0]


def test_big_messages_go_from_node_to_node(cluster):
    queue = cluster.Queue()
    producer = on(cluster, 0, tasks.put_arrays, queue, 6, 300_000)
    assert ended(producer) == [0]  # its messages stay
    assert queue._look()[1] > 6 * 2_400_000
    with cluster.Pool() as pool:
        found = pool.apply_async(tasks.take_many, (queue, 3)).get(PATIENCE)
    found += [queue.get(timeout=PATIENCE) for _ in range(3)]
    assert [(len(array), array[0], array[-1]) for array in found] == [(300_000, n, n) for n in range(6)]


def test_a_big_message_is_fetched_by_calls_that_do_not_wait(cluster):
    queue = cluster.Queue()
    assert ended(on(cluster, 0, tasks.put_arrays, queue, 4, 300_000)) == [0]
    found = [queue.get(False), queue.get(timeout=0), queue.get_nowait(), asyncio.run(queue.get_async(timeout=0))]
    assert [array[0] for array in found] == [0, 1, 2, 3]


def test_children_of_all_kinds_on_a_node_use_the_queue(cluster):
    queue = cluster.Queue()
    process = on(cluster, 0, tasks.with_children, queue, 2)
    found = sorted(queue.get(timeout=2 * PATIENCE) for _ in range(6))
    assert found == sorted((method, n) for method in ("fork", "spawn", "forkserver") for n in range(2))
    assert ended(process) == [0]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_local_children_of_the_client_use_the_queue(cluster, method):
    queue = cluster.Queue()
    child = mp.get_context(method).Process(target=tasks.put_each, args=(queue, [1, 2, 3]))
    child.start()
    assert [queue.get(timeout=PATIENCE) for _ in range(3)] == [1, 2, 3]
    assert ended(child) == [0]


def test_coroutines_wait_without_holding_up_their_loop(cluster):
    queue = cluster.Queue(2)

    async def main():
        waiting = [asyncio.ensure_future(queue.get_async()) for _ in range(5)]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        with pytest.raises(Empty):
            await cluster.Queue().get_async(timeout=0.1)
        for n in range(4):
            await queue.put_async(n, timeout=PATIENCE)
        assert sorted(await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)) == [0, 1, 2, 3]
        await queue.put_async(1)
        await queue.put_async(2)
        with pytest.raises(Full):
            await queue.put_async(3, timeout=0.1)
        return await queue.get_async(), await queue.get_async()

    assert asyncio.run(main()) == (1, 2)
    with cluster.Pool() as pool:
        result = pool.apply_async(tasks.take_in_loop, (queue, 3))
        queue.put_many("abc")
        assert sorted(result.get(PATIENCE)) == ["a", "b", "c"]


def test_it_counts_as_a_queue_of_the_package(cluster):
    queue, joinable, simple = cluster.Queue(), cluster.JoinableQueue(), cluster.SimpleQueue()
    assert isinstance(queue, mp.queues.Queue) and not isinstance(queue, mp.queues.JoinableQueue)
    assert isinstance(joinable, mp.queues.Queue) and isinstance(joinable, mp.queues.JoinableQueue)
    assert isinstance(simple, mp.queues.SimpleQueue) and not isinstance(simple, mp.queues.Queue)
    assert "object" in repr(queue) and "jobs" in repr(cluster.Queue(name="jobs"))
    with pytest.raises(OSError, match="no descriptor"):
        queue.fileno()
    assert not queue._poll(0.01)
    queue.put(1)
    assert queue._reader.poll(PATIENCE)


def test_log_records_of_nodes_come_through_a_queue(cluster):
    queue = cluster.Queue()
    shown = []

    class Shown(logging.Handler):
        def emit(self, record):
            shown.append(record.getMessage())

    listener = logging.handlers.QueueListener(queue, Shown())
    listener.start()
    process = on(cluster, 1, tasks.log, queue)
    until(lambda: shown == ["number 7"])
    assert ended(process) == [0]
    listener.stop()


def test_a_handle_of_another_cluster_is_refused_with_a_sentence(cluster, tmp_path):
    queue = cluster.Queue()
    path = tmp_path / "handle"
    path.write_bytes(pickle.dumps(queue))
    again = pickle.loads(path.read_bytes())
    queue.put(1)
    assert again.get() == 1


def test_a_moved_array_is_sent_as_any_other(cluster):
    queue = cluster.Queue()
    array = numpy.arange(10)
    queue.put({"moved": mp.move(array)})
    assert queue.get(timeout=PATIENCE)["moved"].tolist() == array.tolist()
    with cluster.Pool(1) as pool:
        assert pool.apply(numpy.sum, (mp.move(array),)) == 45
