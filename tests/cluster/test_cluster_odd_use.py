"""Objects of a cluster that are used in odd ways: odd numbers, odd threads, odd moments."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import threading
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession._cluster.sync import call
from procession._cluster.sync.hub import Hub, Owner
from procession._cluster.sync.kinds import kinds
from procession._cluster.sync.scheduler import Link
from procession._cluster.sync.why import findings


@pytest.mark.parametrize("timeout", [threading.TIMEOUT_MAX, 1e30, float("inf")])
def test_a_timeout_may_be_as_long_as_one_likes(cluster, timeout):
    lock, event, queue = cluster.Lock(), cluster.Event(), cluster.Queue(1)
    later = threading.Timer(0.1, event.set)
    later.start()
    assert event.wait(timeout)
    later.join()
    assert lock.acquire(timeout=timeout)
    queue.put(1, timeout=timeout)
    assert queue.get(timeout=timeout) == 1


def test_a_wait_that_is_longer_than_a_socket_can_wait_goes_on(cluster, monkeypatch):
    monkeypatch.setattr(call, "_HEARS", 0.01)
    event = cluster.Event()
    later = threading.Timer(0.2, event.set)
    later.start()
    assert event.wait(PATIENCE)
    later.join()
    event.clear()
    assert not event.wait(0.05)


def test_whole_numbers_of_any_type_count_and_others_are_refused(cluster):
    two: Any = numpy.int64(2)
    semaphore, condition, queue = cluster.Semaphore(two), cluster.Condition(), cluster.Queue(two)
    semaphore.release(two)
    assert semaphore.get_value() == 4
    assert cluster.BoundedSemaphore(two).get_value() == 2
    assert cluster.Barrier(two).parties == 2
    with condition:
        condition.notify(two)
    queue.put_many([1, 2])
    assert queue.get_many(two) == [1, 2]
    queue.put(3)
    with condition:
        for wrong in (
            lambda: cluster.Semaphore(2.5),
            lambda: cluster.Barrier(2.5),
            lambda: semaphore.release(1.5),
            lambda: condition.notify(1.5),
            lambda: queue.get_many(1.5),
        ):
            with pytest.raises(TypeError):
                wrong()
    assert semaphore.get_value() == 4 and queue.qsize() == 1


def test_handles_that_are_dropped_in_the_thread_of_the_loop_do_not_stop_it(cluster):
    last = cluster.Lock(name="last")
    locks = [cluster.Lock() for _ in range(2000)]  # more than the socket to the relay has room for
    numbers = {lock._number for lock in locks}

    async def drop() -> None:
        locks.clear()

    gc.collect()
    cluster.members().begin(drop()).result(PATIENCE)
    assert last.acquire(timeout=PATIENCE)

    def living() -> set[int]:
        return numbers & {each["object"] for each in cluster.members()._client.sync(facts)["objects"]}

    async def facts() -> Any:
        return await cluster.members()._client.scheduler.procession_sync_facts()

    until(lambda: not living())


def test_a_connection_that_was_interrupted_before_it_had_a_socket_ends_in_silence(cluster, monkeypatch):
    lock, noise = cluster.Lock(), []

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", noise.append)
        patch.setattr("socket.socket", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock._here.connect(1)
        gc.collect()
    assert noise == []
    assert lock.acquire(timeout=PATIENCE)


def test_the_hub_forgets_a_thread_when_its_last_connection_ends():
    hub = Hub(lambda owner, number, answer: None, kinds())
    service: Any = SimpleNamespace(hub=hub, asked={}, dask=SimpleNamespace(id="here"), spoken=set())
    link = Link(service, None, "one", "one")
    link._on_began(1, 100, "p")
    for channel in (1, 2):
        link._on_open(channel, 1, 7, 1234, "here")
    threads = hub.processes["one", 1].threads
    link._on_close(1)
    assert threads == {7: 1234}
    link._on_close(2)
    assert threads == {}


def waits(cluster: Any) -> list[Any]:
    client = cluster.members()._client

    async def facts() -> Any:
        return await client.scheduler.procession_sync_facts()

    return [waiter for each in client.sync(facts)["objects"] if each["name"] == "odd" for waiter in each["waiters"]]


def test_a_wait_with_a_timeout_is_told_to_be_one_with_a_limit(cluster):
    lock = cluster.Lock(name="odd")
    lock.acquire()
    one = threading.Thread(target=lock.acquire, kwargs={"timeout": PATIENCE})
    one.start()
    until(lambda: waits(cluster))
    assert [waiter[9] for waiter in waits(cluster)] == [True]
    lock.release()
    one.join()


def test_tasks_of_one_loop_that_wait_for_each_other_are_no_deadlock(cluster):
    client = cluster.members()._client

    async def facts() -> Any:
        return await client.scheduler.procession_sync_facts()

    async def both() -> Any:
        lock = cluster.Lock(name="odd")
        await lock.acquire_async()
        other = asyncio.create_task(lock.acquire_async())
        while not await asyncio.to_thread(waits, cluster):
            await asyncio.sleep(0.01)
        told = await asyncio.to_thread(client.sync, facts)
        lock.release()
        assert await other
        return [found for found in findings(told) if "waits for itself" in found["text"]]

    assert asyncio.run(both()) == []


def test_tasks_of_two_loops_that_wait_for_each_other_are_suspected():
    a, b = Owner("one", 1, 1), Owner("two", 1, 1)
    answers: list[Any] = []
    hub = Hub(lambda owner, number, answer: answers.append(answer), kinds(), lambda: 0.0)
    for owner in (a, b):
        hub.process_began(*owner[:2], 10, "p", owner.node)
        hub.request(a, 1, 0, "make", ["lock", None, True])
    one, two = (answer[1] for answer in answers)
    for owner, lock in ((a, one), (b, two), (b, one), (a, two)):
        hub.request(owner, 10 + lock, lock, "acquire", [True], 2)
    (found,) = findings(hub.facts())
    assert found["suspected"] and any("another task" in line for line in found["lines"])


def test_an_object_of_one_machine_in_a_message_is_refused_and_the_queue_goes_on(cluster):
    queue = cluster.Queue()
    with pytest.raises(TypeError, match="object of this machine"):
        queue.put([mp.Lock()])
    queue.put(1)
    assert queue.get(timeout=PATIENCE) == 1


KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]


@pytest.mark.parametrize("kind", KINDS)
def test_isinstance_says_of_an_object_of_a_cluster_what_it_says_of_one_of_this_machine(cluster, kind):
    arguments = (2,) if kind == "Barrier" else ()
    ours, local = getattr(cluster, kind)(*arguments), getattr(mp, kind)(*arguments)
    for other in [*KINDS, "SemLock"]:
        expected = isinstance(local, getattr(mp.synchronize, other))
        assert isinstance(ours, getattr(mp.synchronize, other)) is expected
    assert not isinstance(ours, mp.queues.Queue)
    assert type(pickle.loads(pickle.dumps(ours))) is type(ours)


def test_a_process_of_a_cluster_is_one_for_isinstance(cluster):
    assert isinstance(cluster.Process(), mp.Process) and isinstance(cluster.Process(), mp.process.BaseProcess)


def test_objects_of_a_cluster_are_not_taken_for_those_of_this_machine_where_that_matters(cluster):
    with pytest.raises(TypeError, match="a Lock or an RLock"):
        mp.Condition(cluster.Lock())
    with pytest.raises(TypeError, match="has none"):
        mp.connection.wait([cluster.Event()], 0)
    with pytest.raises(OSError, match="no descriptor"):
        mp.connection.wait([cluster.Queue()], 0)


@pytest.mark.parametrize("kind", [*KINDS, "Queue", "JoinableQueue", "SimpleQueue", "Process"])
def test_they_have_the_public_names_of_those_of_one_machine(cluster, kind):
    arguments = (2,) if kind == "Barrier" else ()
    ours, local = (getattr(of, kind)(*arguments) for of in (cluster, mp))
    missing = {name for name in dir(type(local)) if not name.startswith("_")} - set(dir(type(ours)))
    # one of this machine inherits these; multiprocessing's has them not
    of_queue = {"full", "get_nowait", "is_shutdown", "maxbytes", "maxsize", "put_nowait"}
    assert missing == (of_queue if kind == "SimpleQueue" else set())
