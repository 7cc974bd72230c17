"""Locks of a cluster: shared by processes on several nodes, and told when a holder dies."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import threading
import time
import traceback

import pytest

import cluster_tasks as tasks
import procession as mp
from cluster_nodes import kill
from deadlines import PATIENCE, ended, until
from waiting import ctrl_c_at_rest, in_thread


def test_a_lock_is_shared_by_all_nodes_and_the_client(cluster):
    lock = cluster.Lock(name="shared")
    with cluster.Pool() as pool:
        with lock:
            assert lock.locked()
            assert pool.map(tasks.try_lock, [lock] * 6, chunksize=1) == [False] * 6
        assert not any(pool.starmap(tasks.add_under_lock, [(lock, n) for n in range(20)], chunksize=1))
        assert not lock.locked()
    assert lock.statistics().acquisitions == 21


def test_they_have_the_methods_and_errors_of_those_of_one_machine(cluster):
    lock, again = cluster.Lock(), cluster.RLock(name="again")
    semaphore, bounded = cluster.Semaphore(2), cluster.BoundedSemaphore(1)
    assert repr(lock) == "<Lock(owner=None)>"
    assert again.acquire() and again.acquire()
    assert repr(again) == "<RLock(MainProcess, 2, name='again')>"
    with in_thread(lambda: (repr(again), again.acquire(False))) as notes:
        pass
    assert notes == [("<RLock(SomeOtherThread, nonzero, name='again')>", False)]
    again.release()
    again.release()
    with pytest.raises(AssertionError, match="not owned by thread"):
        again.release()
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()
    with pytest.raises(ValueError, match="value"):
        cluster.Semaphore(-1)
    with pytest.raises(ValueError, match="party"):
        cluster.Barrier(0)
    with pytest.raises(AssertionError):
        cluster.Condition(lock).notify()
    assert semaphore.acquire() and semaphore.acquire() and not semaphore.acquire(timeout=0.01)
    semaphore.release(2)
    assert semaphore.get_value() == 2
    assert isinstance(lock, type(mp.Lock()).__mro__[2])  # SemLock
    for made in (lock, again, semaphore, bounded):
        local = type(getattr(mp, type(made).__name__)())
        assert {name for name in dir(local) if not name.startswith("_")} <= {*dir(made), "register_at_fork"}
    for name in ("Event", "Condition"):
        local = getattr(mp, name)()
        assert {n for n in dir(local) if not n.startswith("_")} <= set(dir(getattr(cluster, name)()))


def test_the_death_of_a_holder_is_told_once_to_the_next_one(cluster):
    lock, ready = cluster.Lock(name="ledger"), cluster.Event()
    holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), name="the-holder")
    holder.start()
    assert ready.wait(PATIENCE)
    assert not lock.acquire(timeout=0.01)
    assert lock.statistics().holder.pid == holder.pid
    holder.kill()
    text = r"the lock ledger, the-holder \(pid \d+ on node-\d\), was killed by SIGKILL"
    with pytest.raises(mp.OwnerDiedError, match=text) as told:
        lock.acquire(timeout=PATIENCE)
    assert (told.value.pid, told.value.name, told.value.exitcode) == (holder.pid, "the-holder", -9)
    assert lock.acquire(timeout=PATIENCE)
    lock.release()
    holder.join()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_holder_that_ends_well_leaves_a_lock_held_and_an_rlock_free(cluster, kind):
    lock = getattr(cluster, kind)()
    holder = cluster.Process(target=tasks.leave_held, args=(lock,))
    holder.start()
    holder.join()
    assert holder.exitcode == 0
    if kind == "Lock":
        assert not lock.acquire(timeout=0.2)
        lock.release()
        assert lock.acquire(False)
    else:
        with pytest.raises(mp.OwnerDiedError, match="exit code 0"):
            lock.acquire(timeout=PATIENCE)


def test_a_lock_that_is_not_robust_stays_held(cluster):
    lock = cluster.Lock(robust=False)
    holder = cluster.Process(target=tasks.leave_held, args=(lock, signal.SIGKILL))
    holder.start()
    holder.join()
    assert not lock.acquire(timeout=0.2)


def test_the_death_of_a_node_frees_what_its_processes_held(nodes):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        lock, ready = cluster.RLock(), cluster.Event()
        holder = cluster.Process(target=tasks.hold_lock, args=(lock, ready), node="node-1")
        holder.start()
        assert ready.wait(PATIENCE)
        with in_thread(lambda: tasks.acquire_outcome(lock, cluster.Event())) as notes:
            kill(nodes.nodes[1])
        assert notes[0][0] == "OwnerDiedError"
        assert lock.acquire(timeout=PATIENCE)


def test_a_dead_waiter_takes_no_lock_along(cluster):
    lock, ready, outcome = cluster.Lock(), cluster.Event(), cluster.Event()
    lock.acquire()
    first = cluster.Process(target=tasks.hold_lock, args=(lock, ready))
    first.start()
    until(lambda: lock.statistics().waiters == 1)
    second = cluster.Process(target=tasks.wait_for_lock, args=(lock, ready, outcome))
    second.start()
    until(lambda: lock.statistics().waiters == 2)
    first.kill()
    first.join()
    until(lambda: lock.statistics().waiters == 1)
    lock.release()
    assert outcome.wait(PATIENCE)
    second.join()


def test_conditions_barriers_and_semaphores_work_across_nodes(cluster):
    condition, ready, barrier = cluster.Condition(), cluster.Semaphore(0), cluster.Barrier(2)
    with cluster.Pool(2) as pool:
        results = [pool.apply_async(tasks.wait_notified, (condition, ready)) for _ in range(2)]
        for _ in results:
            assert ready.acquire(timeout=PATIENCE)
        with condition:
            condition.notify_all()
        assert [result.get(PATIENCE) for result in results] == [True, True]
        assert sorted(pool.starmap(tasks.meet, [(barrier,)] * 2, chunksize=1)) == [0, 1]
        assert pool.apply(tasks.meet, (barrier, 0.05)) == "broken"
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken and barrier.n_waiting == 0
    with condition:
        assert not condition.wait(0.01)
        assert condition.wait_for(lambda: 3, 1) == 3


def test_a_handle_goes_anywhere_in_the_cluster_and_back(cluster):
    lock = cluster.Lock()
    with cluster.Pool() as pool:
        back = pool.apply(tasks.give_back, ({"deep": [lock]},))["deep"][0]
        assert lock.acquire()
        assert not back.acquire(False)
        lock.release()
        assert pool.apply(tasks.make_in_child, (cluster.Lock(),)) == 0
    copy = pickle.loads(pickle.dumps(lock))
    assert copy.acquire(False) and lock.locked()
    lock.release()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_the_client_use_its_objects(cluster, method):
    lock, outcome = cluster.Lock(), cluster.Event()
    lock.acquire()
    child = mp.get_context(method).Process(target=tasks.wait_for_lock, args=(lock, cluster.Event(), outcome))
    child.start()
    until(lambda: lock.statistics().waiters == 1)
    lock.release()
    assert outcome.wait(PATIENCE)
    child.join()
    killed = mp.get_context(method).Process(target=tasks.leave_held, args=(lock, signal.SIGKILL))
    killed.start()
    killed.join()
    with pytest.raises(mp.OwnerDiedError):
        lock.acquire(timeout=PATIENCE)


def test_a_process_outside_of_the_cluster_is_refused(cluster, shared_nodes):
    state = list(cluster.Lock().__getstate__())
    state[1] = "\0procession-none"
    state[0] = "Scheduler-other"
    stranger = object.__new__(type(cluster.Lock()))
    with pytest.raises(ConnectionError, match="cannot be reached from this process"):
        stranger.__setstate__(state)
    state[1] = cluster.Lock()._here.address  # a node that belongs to another cluster
    stranger.__setstate__(state)
    with pytest.raises(ConnectionError, match="of another cluster"):
        stranger.acquire()


def test_ctrl_c_ends_a_wait_at_once_and_leaves_the_object_as_it_was(cluster):
    lock, event, condition = cluster.Lock(), cluster.Event(), cluster.Condition()
    barrier = cluster.Barrier(2)
    helper = cluster.Process(target=tasks.hold_lock, args=(lock, event))
    helper.start()
    assert event.wait(PATIENCE)
    event.clear()
    for wait in (lock.acquire, event.wait, barrier.wait, lambda: lock.acquire(timeout=PATIENCE)):
        with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
            wait()
    with condition:
        with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
            condition.wait()
        condition.notify()  # it is held
    assert (lock.statistics().waiters, event.statistics().waiters, barrier.n_waiting) == (0, 0, 0)
    helper.kill()
    helper.join()


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_a_grant_that_meets_an_exception_of_a_handler_is_given_back(cluster, error):
    lock = cluster.Lock()
    interrupted = 0

    def handler(*_):
        raise error

    before = signal.signal(signal.SIGALRM, handler)
    try:
        end = time.monotonic() + PATIENCE
        while interrupted < 100 and time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))
                lock.acquire()
                signal.setitimer(signal.ITIMER_REAL, 0)
                lock.release()
            except error as raised:
                frames = {frame.name for frame in traceback.extract_tb(raised.__traceback__)}
                interrupted += "acquire" in frames
                if "acquire" in frames:
                    until(lambda: not lock.locked())
                elif lock.locked():  # it had returned already
                    lock.release()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 100


def test_a_signal_handler_may_use_objects_during_a_wait(cluster):
    event = cluster.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: event.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert event.wait(PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_the_async_names_wait_in_the_loop(cluster):
    async def run():
        lock, event, condition, barrier = cluster.Lock(), cluster.Event(), cluster.Condition(), cluster.Barrier(3)
        assert await lock.acquire_async()
        assert not await lock.acquire_async(0.01)
        waiter = asyncio.ensure_future(lock.acquire_async())
        while lock.statistics().waiters == 0:
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        lock.release()
        assert await lock.acquire_async(PATIENCE)
        waits = [asyncio.ensure_future(event.wait_async()) for _ in range(5)]
        while event.statistics().waiters < 5:
            await asyncio.sleep(0)
        event.set()
        assert await asyncio.gather(*waits) == [True] * 5
        event.clear()
        assert not await event.wait_async(0.01)
        assert sorted(await asyncio.gather(*(barrier.wait_async() for _ in range(3)))) == [0, 1, 2]
        with pytest.raises(threading.BrokenBarrierError):
            await barrier.wait_async(0.01)
        assert await condition.acquire_async()
        assert not await condition.wait_async(0.01)
        waiter = asyncio.ensure_future(condition.wait_async())
        while condition.locked():
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert condition.locked()
        condition.release()

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_the_scheduler_lets_an_object_go_when_no_process_has_it(cluster):
    event = cluster.Event(name="gone")
    assert "gone" in tasks.names_in_hub(cluster)
    del event
    until(lambda: "gone" not in tasks.names_in_hub(cluster))
    with cluster.Pool(1) as pool:
        event = cluster.Event(name="sent")
        event.set()
        assert pool.apply(tasks.give_back, (event,)).is_set()
    assert "sent" in tasks.names_in_hub(cluster)


def test_a_lock_has_one_holder_and_each_death_is_told_once_while_processes_are_killed(cluster, tmp_path):
    lock, path = cluster.Lock(), tmp_path / "notes"
    path.write_bytes(b"")
    chance = random.Random(1)
    processes = []
    for _ in range(4):
        processes.append(cluster.Process(target=tasks.note_under_lock, args=(lock, path)))
        processes[-1].start()
    for _ in range(8):
        size = path.stat().st_size
        # by then the one that was told of the last death has noted it, since the lock is given in turn
        until(lambda size=size: path.stat().st_size > size + 200)
        time.sleep(chance.random() / 100)  # any moment is a good one to kill it
        victim = processes.pop(chance.randrange(4))
        os.kill(victim.pid, signal.SIGKILL)
        processes.append(cluster.Process(target=tasks.note_under_lock, args=(lock, path)))
        processes[-1].start()
        victim.join()
    size = path.stat().st_size
    until(lambda: path.stat().st_size > size + 200)
    path.with_suffix(".end").touch()
    assert ended(*processes) == [0] * 4
    notes = path.read_text().split()
    # A holder notes "pid(" and "pid)"; the first one after a holder that was killed notes "!" before.
    inside = None
    for note in notes:
        if note == "!":
            inside = None
        elif note.endswith("("):
            assert inside is None, "two holders at a time, or a death that was not told"
            inside = note[:-1]
        else:
            assert inside == note[:-1]
            inside = None
    assert inside is None and notes.count("!") <= 8
