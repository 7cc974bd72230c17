"""Queues, as a Python program meets them: the same under every start method."""

from __future__ import annotations

import array
import collections
import enum
import os
import pickle
import queue
import signal
import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, running, until

KIB = 1024
SIZES = [0, 1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 1024 * KIB, 64 * 1024 * KIB]


# --- what the child processes do --------------------------------------------------------------------------------------


def echo(inbox, outbox):
    """Sends back what comes in, until None comes."""
    while (item := inbox.get()) is not None:
        outbox.put(item)


def put_all(q, items):
    for item in items:
        q.put(item)


def put_numbers(q, producer, count):
    for number in range(count):
        q.put((producer, number))


def take_until_none(q, log):
    """Takes items until None comes, then tells all that it got, in one message."""
    taken = []
    while (item := q.get()) is not None:
        taken.append(item)
    log.put(taken)


def report_sizes(q, log):
    log.put((q.qsize(), q.empty(), q.full()))


def put_a_megabyte(q):
    q.put(b"x" * 1_000_000)


def close_then_tell(q, log):
    q.close()
    q.join_thread()
    log.put("closed")


def answer_through(carrier):
    """Gets a queue and a lock out of a queue, and uses both."""
    q, lock = carrier.get()
    with lock:
        q.put("answered while holding the lock that was sent")


def report_interrupts(q, log, operation):
    """Blocks in get or put until Ctrl-C comes, says so, and does the same again in peace."""
    log.put("ready")
    act = q.get if operation == "get" else lambda: q.put("from the child")
    try:
        act()
    except KeyboardInterrupt:
        log.put("interrupted")
    log.put(act())


class Explosive:
    """Can be pickled, but raises when it is unpickled."""

    def __reduce__(self):
        return (explode, ())


def explode():
    raise RuntimeError("not in one piece")


Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    """A str that is not exactly one."""


# --- order and bounds -------------------------------------------------------------------------------------------------


def test_items_come_out_in_the_order_in_which_they_went_in(context):
    q = context.Queue()
    with running(context, (put_all, q, range(1000))) as [producer]:
        assert [q.get(timeout=PATIENCE) for _ in range(1000)] == list(range(1000))
        assert ended(producer) == [0]
    assert q.empty()


def test_an_empty_queue_raises_empty_at_once_or_when_the_timeout_is_over(context):
    q = context.Queue()
    began = time.monotonic()
    for attempt in (
        lambda: q.get(False),
        q.get_nowait,
        lambda: q.get(block=False, timeout=5),
        lambda: q.get(timeout=0),
    ):
        with pytest.raises(queue.Empty):
            attempt()
    assert time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        q.get(True, 0.2)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_full_queue_raises_full_at_once_or_when_the_timeout_is_over(context):
    q = context.Queue(2)
    q.put(1)
    q.put(2)
    began = time.monotonic()
    for attempt in (
        lambda: q.put(3, False),
        lambda: q.put_nowait(3),
        lambda: q.put(3, block=False, timeout=5),
        lambda: q.put(3, timeout=0),
    ):
        with pytest.raises(queue.Full):
            attempt()
    assert time.monotonic() - began < 5
    began = time.monotonic()
    with pytest.raises(queue.Full):
        q.put(3, True, 0.2)
    assert 0.2 <= time.monotonic() - began < 5
    assert [q.get(), q.get()] == [1, 2]


def test_a_negative_timeout_does_not_wait(context):
    q = context.Queue(1)
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        q.get(True, -1)
    q.put("only one", True, -1)
    with pytest.raises(queue.Full):
        q.put("too many", True, -1)
    assert q.get(True, -1) == "only one"
    assert time.monotonic() - began < 5


def test_a_blocked_put_goes_on_when_another_process_makes_room(context):
    q, log = context.Queue(1), context.Queue()
    q.put("first")
    with running(context, (take_until_none, q, log)) as [consumer]:
        for item in ("second", "third", None):
            q.put(item, timeout=PATIENCE)
        assert log.get(timeout=PATIENCE) == ["first", "second", "third"]
        assert ended(consumer) == [0]


def test_maxsize_bounds_the_queue_and_zero_or_less_does_not(context):
    bounded = context.Queue(maxsize=3)
    for number in range(3):
        assert not bounded.full()
        bounded.put(number)
    assert bounded.full()
    for unbounded in (context.Queue(0), context.Queue(-1), context.Queue()):
        for number in range(5000):
            unbounded.put(number)
        assert not unbounded.full()
        assert unbounded.qsize() == 5000


def test_qsize_empty_and_full_are_exact(context):
    q, log = context.Queue(100), context.Queue()
    assert (q.qsize(), q.empty(), q.full()) == (0, True, False)
    for number in range(1, 101):
        q.put(number)
        assert (q.qsize(), q.empty(), q.full()) == (number, False, number == 100)
    with running(context, (report_sizes, q, log)):
        assert log.get(timeout=PATIENCE) == (100, False, True)
    for number in range(99, -1, -1):
        q.get()
        assert (q.qsize(), q.empty(), q.full()) == (number, number == 0, False)


# --- what can be sent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_any_size_arrive_whole(context, size):
    inbox, outbox = context.Queue(), context.Queue()
    message = os.urandom(min(size, 64 * KIB)) * max(1, size // (64 * KIB))
    message += bytes(size - len(message))
    assert len(message) == size
    with running(context, (echo, inbox, outbox)) as [process]:
        inbox.put(message)
        inbox.put("next")
        inbox.put(None)
        assert outbox.get(timeout=PATIENCE) == message
        assert outbox.get(timeout=PATIENCE) == "next"
        assert ended(process) == [0]


def test_messages_of_mixed_sizes_keep_their_order_and_content(context):
    inbox, outbox = context.Queue(), context.Queue()
    messages = [bytes([n % 251]) * size for n, size in enumerate(SIZES[:-1] * 5)]
    with running(context, (echo, inbox, outbox)):
        for message in messages:
            inbox.put(message)
        for message in messages:
            assert outbox.get(timeout=PATIENCE) == message


def test_objects_that_only_pickle_knows_arrive(context):
    inbox, outbox = context.Queue(), context.Queue()
    things = [
        Point(1, 2),
        Colour.RED,
        Name("name"),
        {1, 2},
        frozenset("ab"),
        collections.OrderedDict(a=1),
        array.array("d", [1.5, 2.5]),
        bytearray(b"abc"),
        complex(1, 2),
        range(3),
        Ellipsis,
        len,
        collections.Counter("aab"),
    ]
    with running(context, (echo, inbox, outbox)):
        for thing in things:
            inbox.put(thing)
            got = outbox.get(timeout=PATIENCE)
            assert got == thing
            assert type(got) is type(thing)


def test_a_message_is_what_the_object_was_when_it_was_put():
    q = mp.Queue()
    for thing in ([0], {"k": 0}, bytearray(b"0" * 100_000), [b"x" * 100_000]):
        q.put(thing)
        expected = pickle.loads(pickle.dumps(thing))
        thing.clear()
        assert q.get(timeout=PATIENCE) == expected


def test_an_object_that_cannot_be_pickled_raises_in_put_and_leaves_the_queue_as_it_was(context):
    q = context.Queue(1)
    for thing in (threading.Lock(), [threading.Lock()], (1, {"key": threading.Lock()})):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            q.put(thing)
        assert q.empty()
    q.put("fits")
    assert q.get(timeout=PATIENCE) == "fits"


def test_an_object_that_cannot_be_unpickled_raises_in_get_and_the_queue_goes_on(context):
    q = context.Queue()
    q.put(Explosive())
    q.put([Explosive()])
    q.put("next")
    for left in (2, 1):
        with pytest.raises(RuntimeError, match="not in one piece"):
            q.get(timeout=PATIENCE)
        assert q.qsize() == left
    assert q.get(timeout=PATIENCE) == "next"


def test_queues_and_locks_can_be_sent_through_queues(context):
    carrier, q, lock = context.Queue(), context.Queue(), context.Lock()
    with running(context, (answer_through, carrier)) as [process]:
        lock.acquire()
        carrier.put((q, lock))
        with pytest.raises(queue.Empty):
            q.get(timeout=0.2)
        lock.release()
        assert q.get(timeout=PATIENCE) == "answered while holding the lock that was sent"
        assert ended(process) == [0]


def test_a_queue_sent_through_itself_is_the_same_queue(context):
    q = context.Queue()
    q.put(q)
    again = q.get(timeout=PATIENCE)
    again.put("one queue")
    assert q.get(timeout=PATIENCE) == "one queue"


def test_a_queue_lives_while_only_a_message_refers_to_it(context):
    carrier = context.Queue()
    inner = context.Queue()
    inner.put("kept")
    carrier.put(inner)
    del inner
    assert carrier.get(timeout=PATIENCE).get(timeout=PATIENCE) == "kept"


# --- many processes, many threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, 3])
def test_four_producers_and_four_consumers_lose_and_repeat_nothing(context, maxsize):
    q, log = context.Queue(maxsize), context.Queue()
    count = 500
    with running(
        context,
        *[(put_numbers, q, producer, count) for producer in range(4)],
        *[(take_until_none, q, log) for _ in range(4)],
    ) as processes:
        assert ended(*processes[:4]) == [0] * 4
        for _ in range(4):
            q.put(None, timeout=PATIENCE)
        taken = [log.get(timeout=PATIENCE) for _ in range(4)]
        assert ended(*processes[4:]) == [0] * 4
    everything = [(producer, number) for producer in range(4) for number in range(count)]
    assert sorted(item for one in taken for item in one) == everything
    for one in taken:  # what one producer sent, each consumer sees in order
        for producer in range(4):
            numbers = [number for who, number in one if who == producer]
            assert numbers == sorted(numbers)


def test_threads_of_one_process_share_a_queue():
    q, count = mp.Queue(5), 300
    taken: list[Any] = []

    def take():
        while (item := q.get()) is not None:
            taken.append(item)

    producers = [threading.Thread(target=put_numbers, args=(q, n, count), daemon=True) for n in range(4)]
    consumers = [threading.Thread(target=take, daemon=True) for _ in range(4)]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join(PATIENCE)
    for _ in consumers:
        q.put(None, timeout=PATIENCE)
    for thread in consumers:
        thread.join(PATIENCE)
    assert sorted(taken) == [(producer, number) for producer in range(4) for number in range(count)]


def test_a_thread_that_waits_for_a_message_does_not_stop_the_others():
    q = mp.Queue()
    got: list[Any] = []
    waiter = threading.Thread(target=lambda: got.append(q.get()), daemon=True)
    waiter.start()
    asleep(os.getpid(), waiter.native_id)
    q.put("wake up")  # would never be reached if the waiter held the interpreter
    until(lambda: got == ["wake up"])


# --- the end of a queue -----------------------------------------------------------------------------------------------


def test_a_producer_can_be_joined_before_its_messages_are_taken(context):
    q = context.Queue()
    with running(context, (put_a_megabyte, q)) as [producer]:
        assert ended(producer) == [0]
    assert len(q.get(timeout=PATIENCE)) == 1_000_000


def test_a_closed_queue_refuses_and_says_that_it_is_closed(context):
    q = context.Queue()
    q.put(1)
    q.close()
    with pytest.raises(ValueError, match="is closed"):
        q.put(2)
    with pytest.raises(ValueError, match="is closed"):
        q.get(timeout=PATIENCE)
    q.close()
    q.join_thread()
    q.cancel_join_thread()


def test_closing_is_for_one_process_alone(context):
    q, log = context.Queue(), context.Queue()
    with running(context, (close_then_tell, q, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "closed"
        assert ended(process) == [0]
    q.put("still open here")
    assert q.get(timeout=PATIENCE) == "still open here"


@pytest.mark.parametrize("operation", ["get", "put"])
def test_ctrl_c_interrupts_a_waiting_child_at_once_and_the_queue_stays_usable(context, operation):
    q, log = context.Queue(1), context.Queue()
    if operation == "put":
        q.put("in the way")
    with running(context, (report_interrupts, q, log, operation)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        os.kill(process.pid, signal.SIGINT)
        began = time.monotonic()
        assert log.get(timeout=PATIENCE) == "interrupted"
        assert time.monotonic() - began < 5
        if operation == "put":
            assert q.get(timeout=PATIENCE) == "in the way"
            assert q.get(timeout=PATIENCE) == "from the child"
            assert log.get(timeout=PATIENCE) is None
        else:
            q.put("after all")
            assert log.get(timeout=PATIENCE) == "after all"
        assert ended(process) == [0]
    assert q.empty()


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_ctrl_c_interrupts_the_main_thread_in_get(timeout):
    q = mp.Queue()
    main = threading.get_native_id()

    def interrupt():
        asleep(os.getpid(), main)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        q.get(timeout=timeout)
    thread.join(PATIENCE)
    q.put("usable")
    assert q.get(timeout=PATIENCE) == "usable"


def test_a_signal_handler_runs_while_the_main_thread_waits_and_the_wait_goes_on():
    q = mp.Queue()
    main = threading.get_native_id()
    handled: list[int] = []

    def interrupt():
        asleep(os.getpid(), main)
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: handled)
        q.put("at last")

    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        assert q.get(timeout=PATIENCE) == "at last"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
