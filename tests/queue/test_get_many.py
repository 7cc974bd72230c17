"""`get_many`: one timeout for the whole call, and no item is lost to a consumer that was stopped or to a signal."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import threading
import time
from queue import Empty

import pytest

import procession as mp
from deadlines import PATIENCE, running, slowness, state, until
from procession import _core

GET_MUTEX = 64 + 3 * 8  # where a queue says at which offset the consumers' mutex lies


# --- what the child processes and unpickled objects do ----------------------------------------------------------------


def put_when_told(told, q):
    told.wait()
    q.put("late")


def mutex_of(q):
    """The address of the consumers' mutex in this process, as something to pass to C."""

    def word_at(place):
        page = mmap.PAGESIZE
        memory = mmap.mmap(_core.family_fd(), 2 * page, offset=place // page * page)
        return ctypes.byref(ctypes.c_char.from_buffer(memory, place % page))

    (offset,) = struct.unpack_from("<Q", q.handle, 16)
    (place,) = struct.unpack("<Q", ctypes.string_at(word_at(offset + GET_MUTEX), 8))
    return word_at(place)


def stop_as_a_consumer(q, told):
    """Waits, and stops while it holds the consumers' mutex, as a process does that gets SIGSTOP at the wrong moment."""
    mutex, library = mutex_of(q), ctypes.CDLL(None)
    told.wait()
    library.pthread_mutex_lock(mutex)
    os.kill(os.getpid(), signal.SIGSTOP)
    library.pthread_mutex_unlock(mutex)


class Calls:
    """An object that calls a function when it is unpickled."""

    hook = staticmethod(lambda: None)

    def __reduce__(self):
        return called, ()


def called():
    Calls.hook()
    return "called"


@pytest.fixture
def hook():
    """Sets what an object of `Calls` calls when it is unpickled."""

    def set_hook(function):
        Calls.hook = staticmethod(function)

    yield set_hook
    Calls.hook = staticmethod(lambda: None)


@pytest.fixture
def consumer():
    """Returns a function that starts a consumer of a queue, and one that makes this stop with the mutex held."""
    children = []

    def start(q):
        context = mp.get_context("fork")
        told = context.Event()
        child = context.Process(target=stop_as_a_consumer, args=(q, told))
        child.start()
        children.append(child)

        def stop():
            told.set()
            until(lambda: state(child.pid) == "T")

        return stop

    yield start
    for child in children:
        os.kill(child.pid, signal.SIGCONT)
        child.join(PATIENCE)
        assert child.exitcode == 0


def took(function):
    """How many seconds a call takes that has to raise `Empty`."""
    began = time.monotonic()
    with pytest.raises(Empty):
        function()
    return time.monotonic() - began


# --- tests ------------------------------------------------------------------------------------------------------------


def test_an_empty_queue_raises_empty_when_the_timeout_is_over():
    q = mp.Queue()
    assert 0.2 <= took(lambda: q.get_many(5, timeout=0.2)) < PATIENCE
    assert took(lambda: q.get_many(5, timeout=0)) < PATIENCE
    assert took(lambda: q.get_many(5, block=False)) < PATIENCE


def test_a_first_item_that_comes_late_is_returned_without_a_wait_for_more(context):
    q, told = context.Queue(), context.Event()
    with running(context, (put_when_told, told, q)):
        threading.Timer(0.3, told.set).start()
        began = time.monotonic()
        assert q.get_many(5, timeout=PATIENCE * 10) == ["late"]
        assert time.monotonic() - began < PATIENCE


def test_an_item_that_travels_alone_is_returned_without_a_wait_for_more():
    q = mp.Queue()
    for items in ([mp.Lock()], [1, mp.Lock()], [mp.Lock(), 1], [bytes(5_000_000)]):
        q.put_many(items)
        got = []
        began = time.monotonic()
        while len(got) < len(items):
            got += q.get_many(5, timeout=PATIENCE * 10)
        assert time.monotonic() - began < PATIENCE
        assert [type(item) for item in got] == [type(item) for item in items]


def test_the_timeout_holds_while_another_consumer_is_stopped_with_the_mutex(consumer):
    q = mp.Queue()
    stop = consumer(q)
    q.put_many([1, 2])
    stop()
    assert 0.2 <= took(lambda: q.get_many(5, timeout=0.2)) < PATIENCE
    assert not q.empty()


def test_the_wait_for_an_item_and_the_wait_for_the_mutex_have_one_timeout(consumer):
    q = mp.Queue()
    consumer(q)()
    seconds = 2 * slowness()
    late = threading.Timer(seconds / 2, q.put, ("late",))
    late.start()
    # it waits for an item until the half of the time, and then for the mutex
    assert seconds <= took(lambda: q.get_many(5, timeout=seconds)) < 1.5 * seconds
    late.join()
    assert not q.empty()


@pytest.mark.parametrize("timeout", [None, PATIENCE * 10])
def test_items_are_returned_though_another_consumer_is_stopped_with_the_mutex(hook, consumer, timeout):
    q = mp.Queue()
    hook(consumer(q))  # when the first item is unpickled, another consumer gets the mutex and is stopped
    q.put_many([Calls(), mp.Lock()])
    began = time.monotonic()
    assert q.get_many(5, timeout=timeout) == ["called"]
    assert time.monotonic() - began < PATIENCE
    assert not q.empty(), "the other item is still there"


class Derived(mp.queues.Queue):  # type: ignore[name-defined,misc]
    def get(self, block=True, timeout=None):
        return super().get(block, timeout)


@pytest.mark.parametrize("kind", [mp.queues.Queue, Derived])  # type: ignore[attr-defined]
def test_the_last_items_of_a_queue_that_was_shut_down_are_returned(kind):
    q = kind(ctx=mp.get_context())
    q.put_many([1, 2])
    q.shutdown()
    assert q.get_many(5) == [1, 2]
    with pytest.raises(mp.queues.ShutDown):  # type: ignore[attr-defined]
        q.get_many(5)
