"""What all locks, semaphores, conditions, events and barriers have in common, wherever they are used."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, open_descriptors, running, state, until
from procession import synchronize
from waiting import ctrl_c_at_rest, in_thread, wait_and_tell, wait_on

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]


def make(kind: str, **keywords: Any) -> Any:
    return getattr(mp, kind)(*((2,) if kind == "Barrier" else ()), **keywords)


def made_to_wait_on(kind: str) -> Any:
    """One on which everybody who comes has to wait (unless it is this thread, and an RLock)."""
    thing = make(kind)
    if kind not in ("Condition", "Event", "Barrier"):
        thing.acquire()
    return thing


def let_go(thing: Any) -> None:
    """Ends the wait of one who waits."""
    if isinstance(thing, synchronize.Condition):
        with thing:
            thing.notify()
    elif isinstance(thing, synchronize.Event):
        thing.set()
    elif isinstance(thing, synchronize.Barrier):
        thing.wait(PATIENCE)
    else:
        thing.release()


# --- what the child processes do --------------------------------------------------------------------------------------


def use_what_comes(inbox, log):
    """Waits on each object that comes, until None."""
    while (thing := inbox.get()) is not None:
        wait_and_tell(thing, log)


def play(lock, rlock, seats, condition, event, barrier, turns, rounds):
    """Takes part in a game of all of them; its rounds only go on if each does what it is for."""
    event.wait()
    for _ in range(rounds):
        with lock, rlock, rlock, seats:
            pass
        with condition:
            turns.release()
            condition.notify_all()
            number = turns.get_value()
            condition.wait_for(lambda: turns.get_value() >= (number + 3) // 4 * 4)  # noqa: B023
        barrier.wait()


def pass_down(methods, thing, log):
    """Hands a thing to a child of another start method, which does likewise, and the last one uses it."""
    if not methods:
        wait_and_tell(thing, log)
        return
    process = mp.get_context(methods[0]).Process(target=pass_down, args=(methods[1:], thing, log))
    process.start()
    process.join()


def acquire_often(lock, go, end, log):
    count = 0
    go.wait()
    while not end.is_set():
        with lock:
            count += 1
    log.put(count)


def interruptible(thing, log):
    """Tells "ready" and what comes of the wait, twice."""
    for _ in range(2):
        wait_and_tell(thing, log)


# --- sent -------------------------------------------------------------------------------------------------------------


def test_they_can_be_sent_through_a_queue_to_a_process_that_runs(context):
    inbox, log = context.Queue(), context.Queue()
    with running(context, (use_what_comes, inbox, log)) as [process]:
        for kind in KINDS:
            thing = made_to_wait_on(kind)
            inbox.put(thing)
            assert log.get(timeout=PATIENCE) == "ready"
            asleep(process.pid)
            assert log.empty(), kind
            let_go(thing)
            assert log.get(timeout=PATIENCE) in (True, 0), kind
        inbox.put(None)
        assert ended(process) == [0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_of_one_is_the_same_one(kind, protocol):
    thing = made_to_wait_on(kind)
    again = pickle.loads(pickle.dumps(thing, protocol))
    assert type(again) is type(thing)

    def wait() -> None:
        wait_on(again)
        if kind == "RLock":
            again.release()

    with in_thread(wait) as notes:
        until(lambda: thing.statistics().waiters == 1)
        let_go(thing)
    assert notes == [None]
    twin = copy.copy(thing)
    assert twin is not thing
    assert repr(twin).partition(" at ")[0] == repr(thing).partition(" at ")[0]


def test_a_condition_brings_its_lock_along_and_a_barrier_its_action():
    lock = mp.Lock()
    first = mp.Condition(lock)
    condition, same = pickle.loads(pickle.dumps((first, lock)))
    with lock:
        assert condition.acquire(False) is False
        assert condition._lock is same
    acting, impatient = mp.Barrier(1, fail, 0.1), mp.Barrier(2, timeout=0.1)
    with pytest.raises(ZeroDivisionError):
        pickle.loads(pickle.dumps(acting)).wait()
    with pytest.raises(threading.BrokenBarrierError):
        pickle.loads(pickle.dumps(impatient)).wait()


def fail():
    raise ZeroDivisionError


def test_processes_of_all_start_methods_and_threads_share_all_of_them():
    lock, rlock, seats, event = mp.Lock(), mp.RLock(), mp.BoundedSemaphore(2), mp.Event()
    condition, barrier, turns = mp.Condition(lock), mp.Barrier(4), mp.Semaphore(0)
    things = (lock, rlock, seats, condition, event, barrier, turns, 50)
    methods = ("fork", "spawn", "forkserver")
    processes = [mp.get_context(method).Process(target=play, args=things) for method in methods]
    for process in processes:
        process.start()
    with in_thread(lambda: play(*things)) as notes:
        event.set()
        assert ended(*processes) == [0, 0, 0]
    assert notes == [None]
    assert turns.get_value() == 200
    assert (lock.locked(), rlock.locked(), seats.get_value(), barrier.n_waiting) == (False, False, 2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_they_reach_a_grandchild_through_every_start_method(kind):
    thing, log = made_to_wait_on(kind), mp.Queue()
    with running(mp.get_context("spawn"), (pass_down, ("forkserver", "fork"), thing, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        until(lambda: thing.statistics().waiters == 1)
        let_go(thing)
        assert log.get(timeout=PATIENCE) in (True, 0)
        assert ended(process) == [0]


def test_they_take_no_descriptor_and_give_their_memory_back():
    make("Lock")
    before = open_descriptors()
    for _ in range(2000):
        things = [make(kind) for kind in KINDS]
        with things[0], things[1], things[2], things[4]:
            things[5].set()
    assert open_descriptors() == before


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_interrupts_every_wait_at_once_and_leaves_the_object_usable(context, kind):
    thing, log = made_to_wait_on(kind), context.Queue()
    with running(context, (interruptible, thing, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert log.get(timeout=PATIENCE) == "KeyboardInterrupt"
        assert time.monotonic() - began < 5
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        assert log.empty()
        let_go(thing)
        assert log.get(timeout=PATIENCE) in (True, 0)
        assert ended(process) == [0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "RLock"])
def test_a_signal_that_interrupts_no_sleep_is_noticed_during_the_wait(kind):
    """The system may give it to any thread, or to this one between two sleeps; Python's handler in C only notes it."""
    thing = made_to_wait_on(kind)

    class Noticed(Exception):
        pass

    def handler(*_: Any) -> None:
        raise Noticed

    def send() -> None:
        asleep(os.getpid())
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(Noticed):
            wait_on(thing, PATIENCE)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "RLock"])
def test_a_signal_handler_runs_during_the_wait_and_may_let_it_end(kind):
    thing, calls = made_to_wait_on(kind), []

    def handler(*_: Any) -> None:
        calls.append(1)
        if kind == "Condition":  # the lock was released for the wait
            thing._lock.acquire()
            thing.notify()
            thing._lock.release()
        elif kind == "Barrier":
            thing.abort()
        else:
            let_go(thing)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with ctrl_c_at_rest():
            if kind == "Barrier":
                with pytest.raises(threading.BrokenBarrierError):
                    wait_on(thing)
            else:
                assert wait_on(thing) is True
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [1]


def given_up(thing):
    """Gives up a wait of this thread, the main one, for a Ctrl-C that another thread of it receives."""
    main = threading.get_native_id()

    def interrupt():
        asleep(os.getpid(), main)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with in_thread(interrupt), pytest.raises(KeyboardInterrupt):
        wait_on(thing)


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "Condition", "Event"])
def test_forked_children_count_their_own_waits_and_not_one_that_their_parent_has_given_up(kind):
    thing = made_to_wait_on(kind)
    given_up(thing)
    with running(mp.get_context("fork"), *[(wait_on, thing)] * 3):
        until(lambda: thing.statistics().waiters == 3)


def test_a_wait_is_counted_although_one_for_an_object_that_was_in_its_place_was_given_up():
    def in_use():
        thing = made_to_wait_on("Semaphore")

        def let_go_of_the_one_that_waits():
            until(lambda: thing.statistics().waiters == 1)
            thing.release()

        with in_thread(let_go_of_the_one_that_waits) as answers:
            assert thing.acquire(timeout=PATIENCE)
        assert answers == [None]
        given_up(thing)

    for _ in range(5):
        in_use()


# --- waiting costs nothing --------------------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "Condition", "Event", "Barrier"])
def test_a_hundred_waiting_processes_cost_no_cpu(kind):
    context = mp.get_context("fork")
    log = context.Queue()
    thing = mp.Barrier(101) if kind == "Barrier" else made_to_wait_on(kind)
    with running(context, *[(wait_and_tell, thing, log)] * 100) as processes:
        until(lambda: thing.statistics().waiters == 100)
        until(lambda: all(state(process.pid) == "S" for process in processes))
        before, began = sum(cpu_seconds(process.pid) for process in processes), time.monotonic()
        time.sleep(1)  # the time that is measured
        used, passed = sum(cpu_seconds(p.pid) for p in processes) - before, time.monotonic() - began
        # two short looks a second each, which a busy machine makes dear; a hundred that spin would take all there is
    assert used < 0.25 * passed, f"{used:.3f} s of CPU time in {passed:.3f} s"


def test_a_hundred_waiting_threads_cost_no_cpu():
    event = mp.Event()
    threads = [threading.Thread(target=event.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    until(lambda: event.statistics().waiters == 100)
    asleep(os.getpid(), threads[-1].native_id)
    before, began = time.process_time(), time.monotonic()
    time.sleep(1)  # the time that is measured
    used, passed = time.process_time() - before, time.monotonic() - began
    event.set()
    for thread in threads:
        thread.join(PATIENCE)
    # two short looks a second each, which a busy machine makes dear; a hundred that spin would take all there is
    assert used < 0.25 * passed, f"{used:.3f} s of CPU time in {passed:.3f} s"


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_among_four_who_contend_none_starves(kind):
    context = mp.get_context("fork")
    lock, go, end, log = make(kind), context.Event(), context.Event(), context.Queue()
    with running(context, *[(acquire_often, lock, go, end, log)] * 4) as processes:
        go.set()
        time.sleep(2)  # the time that is measured
        end.set()
        counts = [log.get(timeout=PATIENCE) for _ in processes]
        assert ended(*processes) == [0] * 4
    assert max(counts) < 3 * statistics.median(counts), counts
    assert min(counts) > 0, counts


# --- what they tell ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_is_shown_and_travels_along(kind):
    thing = make(kind, name="jobs")
    for it in (thing, pickle.loads(pickle.dumps(thing))):
        assert "name='jobs'" in repr(it)
        assert it.name == it.statistics().name == "jobs"
    assert make(kind).name is None


def test_statistics_tell_who_holds_how_many_wait_and_how_long_they_did():
    for kind in ("Lock", "RLock"):
        lock = make(kind)
        told = lock.statistics()
        assert dataclasses.is_dataclass(told)
        assert (told.name, told.holder, told.waiters, told.acquisitions, told.contended) == (None, None, 0, 0, 0)
        assert told.total_wait == 0.0
        with lock:
            holder = lock.statistics().holder
            assert holder == (os.getpid(), threading.get_ident(), holder.process)

            def take(lock=lock):
                with lock:
                    pass

            thread = threading.Thread(target=take)
            thread.start()
            until(lambda lock=lock: lock.statistics().waiters == 1)
            time.sleep(0.05)  # the time that is counted
        thread.join(PATIENCE)
        told = lock.statistics()
        assert (told.holder, told.waiters, told.acquisitions, told.contended) == (None, 0, 2, 1)
        assert 0.05 <= told.total_wait < 5
        with pytest.raises(dataclasses.FrozenInstanceError):
            told.waiters = 1


def wait_with(thing):
    if hasattr(thing, "notify"):
        with thing:
            thing.wait()
    elif hasattr(thing, "acquire"):
        thing.acquire()
    else:
        thing.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_do_not_count_a_killed_waiter(kind, context):
    thing = getattr(context, kind)(*{"Semaphore": (0,), "BoundedSemaphore": (1,), "Barrier": (3,)}.get(kind, ()))
    if kind in ("Lock", "RLock", "BoundedSemaphore"):
        thing.acquire()
    waiters = [context.Process(target=wait_with, args=(thing,)) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    until(lambda: thing.statistics().waiters == 2)
    waiters[0].kill()
    waiters[0].join(PATIENCE)
    until(lambda: thing.statistics().waiters == 1)
    waiters[1].kill()
    waiters[1].join(PATIENCE)
    until(lambda: thing.statistics().waiters == 0)


def test_statistics_count_what_each_kind_is_for():
    semaphore, event, barrier, condition = mp.Semaphore(2), mp.Event(), mp.Barrier(1), mp.Condition()
    semaphore.acquire()
    semaphore.acquire()
    assert semaphore.acquire(timeout=0.01) is False
    assert semaphore.statistics().acquisitions == 2
    event.set()
    event.set()
    event.clear()
    event.set()
    assert event.statistics().acquisitions == 2
    barrier.wait()
    barrier.wait()
    assert barrier.statistics().acquisitions == 2
    with in_thread(lambda: wait_on(condition)):
        until(lambda: condition.statistics().waiters == 1)
        with condition:
            condition.notify_all()
    told = condition.statistics()
    assert (told.acquisitions, told.contended, told.waiters) == (1, 1, 0)


# --- the inside, as multiprocessing has it ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "number"), [("Lock", 1), ("RLock", 0), ("Semaphore", 1), ("BoundedSemaphore", 1)])
def test_semlock_has_what_programs_look_for(kind, number):
    thing = make(kind, name="jobs")
    inside = thing._semlock
    assert isinstance(thing, synchronize.SemLock)
    assert (inside.kind, inside.name) == (number, "jobs")
    assert inside.maxvalue == (2**31 - 1 if kind == "Semaphore" else 1)
    assert inside.SEM_VALUE_MAX == synchronize.SEM_VALUE_MAX == 2**31 - 1
    assert type(inside.handle) is int
    assert inside.handle == pickle.loads(pickle.dumps(thing))._semlock.handle
    assert (inside._count(), inside._is_mine(), inside._get_value(), inside._is_zero()) == (0, False, 1, False)
    known = kind in ("Lock", "RLock")
    with inside as entered:
        assert entered is True
        assert (inside._count(), inside._is_mine()) == ((1, True) if known else (0, False))
        assert (inside._get_value(), inside._is_zero()) == (0, True)
        with in_thread(lambda: (inside._count(), inside._is_mine(), inside.acquire(False))) as notes:
            pass
        assert notes == [(0, False, False)]
    assert inside.acquire(True, 0) is True
    inside.release()
    assert thing.locked() is False


def test_the_hot_methods_are_the_cores_own():
    for kind in (synchronize.Lock, synchronize.RLock, synchronize.Semaphore, synchronize.BoundedSemaphore):
        for method in ("acquire", "release", "__enter__", "__exit__"):
            assert not hasattr(getattr(kind, method), "__code__"), (kind, method)
    for method in ("set", "clear", "is_set", "wait"):
        assert not hasattr(getattr(synchronize.Event, method), "__code__")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_initialised_says_so_and_can_be_printed(kind):
    thing = getattr(synchronize, kind)
    blank = thing.__new__(thing)
    assert re.match(rf"<(procession\.synchronize\.)?{kind}\b", repr(blank))
    with pytest.raises((RuntimeError, AttributeError)):
        wait_on(blank, 0)
