"""Signal handlers that raise at any instruction: no item is lost or doubled, and no lock stays held."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from contextlib import suppress
from functools import partial
from queue import Empty
from typing import Any

import pytest

import cluster_storms as storms
from deadlines import PATIENCE, until

SECONDS = 4.0
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a socket that was interrupted as it was made


def of_all(cluster: Any, function: Any, *arguments: Any) -> list[Any]:
    """Runs a function here and in a process of each node, at the same time. Returns what they report. A list among
    the arguments has one for each."""
    reports = cluster.Queue()
    each = [[given[n] if type(given) is list else given for given in arguments] for n in range(3)]
    nodes = cluster.nodes()
    processes = [
        cluster.Process(target=function, args=(*each[n], SECONDS, reports.put), node=nodes[n]) for n in range(2)
    ]
    for process in processes:
        process.start()
    found: list[Any] = []
    function(*each[2], SECONDS, found.append)
    found += [reports.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return found


@pytest.mark.parametrize("size", [0, 1_200_000])
def test_no_item_is_lost_doubled_or_kept_back_in_a_storm_of_signals(cluster, shared_nodes, size):
    queue = cluster.Queue()
    found = of_all(cluster, storms.use_queue, queue, ["get", "get_many", "get"], [0, 10**6, 2 * 10**6], size)
    assert all(raised > 20 for *_, raised in found)
    tried, put, got = (Counter(number for each in found for number in each[n]) for n in range(3))
    # what was put is in the queue at once, or comes back to it soon
    until(lambda: not queue._call("facts")["receiving"])
    with suppress(Empty):
        while True:
            got.update(number for number, _ in queue.get_many(100, False))
    assert set(put) <= set(got) <= set(tried)
    assert max(got.values()) == 1
    until(lambda: kept_by_nodes(shared_nodes) == 0)


def kept_by_nodes(nodes: Any) -> int:
    """Returns how many big messages the relays of all nodes have."""
    from distributed import Client

    def count(dask_worker: Any) -> int:
        count: int = dask_worker._procession_relay.from_process["keep"].__self__.facts()[0]
        return count

    with Client(nodes.address, set_as_default=False) as client:
        return sum(client.run(count).values())


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition"])
def test_no_lock_stays_held_in_a_storm_of_signals(cluster, kind):
    lock = getattr(cluster, kind)()
    found = of_all(cluster, storms.use_lock, lock)
    for inside, alone, kept, raised in found:
        assert inside > 5 and alone and raised > 20
        assert kept <= 2 + raised / 50
    until(lambda: not lock.locked())
    assert lock.statistics().waiters == 0


def test_a_semaphore_keeps_its_value_in_a_storm_of_signals(cluster):
    semaphore = cluster.BoundedSemaphore(50)
    found = of_all(cluster, storms.use_semaphore, semaphore)
    kept = sum(each for each, _ in found)
    assert kept <= 6 + sum(raised for _, raised in found) / 50
    until(lambda: semaphore.get_value() == 50 - kept)


def test_a_barrier_with_an_action_holds_no_party_up_in_a_storm_of_signals(cluster):
    barrier = cluster.Barrier(3, action=partial(sum, (1, 2)))
    found = of_all(cluster, storms.meet, barrier)
    assert max(met for met, _ in found) > 0
    assert barrier.n_waiting == 0


def test_what_a_cancelled_call_was_granted_is_back_when_its_loop_ends(cluster):
    lock, queue = cluster.Lock(), cluster.Queue()
    queue.put("item")

    async def cancelled(call: Any) -> Any:
        task = asyncio.ensure_future(call())
        await asyncio.sleep(random.uniform(0, 0.003))
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None

    for _ in range(100):
        if asyncio.run(cancelled(lock.acquire_async)):
            lock.release()
        until(lambda: not lock.locked())
        if asyncio.run(cancelled(queue.get_async)):
            queue.put("item")
        until(lambda: queue.qsize() == 1)


class Raises:
    """An object that is unpickled while the handler of a signal raises."""

    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGALRM,)


@pytest.mark.parametrize("kind", ["function", "partial", "object"])
def test_an_item_goes_back_if_a_signal_handler_raises_while_it_is_unpickled(cluster, kind):
    queue = cluster.Queue()
    raises = [True]

    def raise_once(*_: Any) -> None:
        if raises:
            raise TimeoutError(raises.pop())

    class Handler:
        def __call__(self, *_: Any) -> None:
            raise_once()

    handlers = {"function": raise_once, "partial": partial(raise_once, 1), "object": Handler()}
    before = signal.signal(signal.SIGALRM, handlers[kind])
    try:
        queue.put(("first", Raises()))
        queue.put("second")
        with pytest.raises(TimeoutError):
            queue.get()
        assert [queue.get(timeout=PATIENCE)[0], queue.get(timeout=PATIENCE)] == ["first", "second"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_item_that_cannot_be_unpickled_is_no_interrupt(cluster):
    queue = cluster.Queue()
    queue.put(Fails())
    queue.put(2)
    with pytest.raises(TimeoutError):
        queue.get()
    assert queue.get(timeout=PATIENCE) == 2


class Fails:
    def __reduce__(self) -> Any:
        return fail, ()


def fail() -> None:
    raise TimeoutError
