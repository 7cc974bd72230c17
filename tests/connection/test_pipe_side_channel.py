"""What is big goes beside a pipe, through family memory, and so do references to shared objects."""

from __future__ import annotations

import gc
import os
import pickle
import signal
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running
from procession import _core

np = pytest.importorskip("numpy")


def shared(data: Any) -> bool:
    """Whether an array lies in family memory."""
    while getattr(data, "base", None) is not None:
        data = data.base
    return isinstance(data.obj if isinstance(data, memoryview) else data, _core.SharedBytes)


def add_one(conn):
    while (data := conn.recv()) is not None:
        data += 1
        conn.send(data)


def send_and_die(conn):
    conn.send([np.full(500_000, 7), np.full(100, 8)])
    os.kill(os.getpid(), signal.SIGKILL)


def hand_over(conn, there):
    """Passes messages on without looking into them."""
    while message := conn.recv_bytes():
        there.send_bytes(message)


@pytest.mark.parametrize("duplex", [True, False])
def test_a_big_array_arrives_in_memory_of_the_family_and_is_the_receivers_alone(duplex):
    a, b = mp.Pipe(duplex)
    sender, receiver = (a, b) if duplex else (b, a)
    data = np.arange(100_000.0)
    sender.send({"data": data, "more": [data, data[::100]], "small": np.arange(3)})
    data[:] = -1
    arrived = receiver.recv()
    assert shared(arrived["data"])
    assert arrived["more"][0] is arrived["data"]
    assert arrived["data"][-1] == 99_999
    arrived["data"][0] = 5  # writable
    assert list(arrived["small"]) == [0, 1, 2]
    assert len(a._side_channel) == 0


def test_arrays_go_to_and_fro_between_processes(context):
    here, there = context.Pipe()
    with running(context, (add_one, there)) as [process]:
        data = np.zeros(300_000)
        for _ in range(50):
            here.send(data)
            assert here.poll(PATIENCE)
            data = here.recv()
        here.send(None)
        assert ended(process) == [0]
    assert data[0] == data[-1] == 50
    assert shared(data)


def test_what_a_killed_sender_has_sent_arrives(context):
    here, there = context.Pipe()
    with running(context, (send_and_die, there)) as [process]:
        there.close()
        assert ended(process) == [-signal.SIGKILL]
        big, small = here.recv()
    assert (big == 7).all()
    assert (small == 8).all()
    with pytest.raises(EOFError):
        here.recv()


def test_a_message_may_be_passed_on_unread_and_unpickled_in_any_order(context):
    first, second = context.Pipe()
    third, fourth = context.Pipe()
    with running(context, (hand_over, second, third)) as [process]:
        first.send(np.full(50_000, 1))
        first.send(np.full(50_000, 2))
        one, two = fourth.recv_bytes(), fourth.recv_bytes()
        first.send_bytes(b"")
        assert ended(process) == [0]
    assert len(one) < 1000
    assert pickle.loads(two)[0] == 2
    assert pickle.loads(one)[0] == 1


def test_a_message_that_is_unpickled_twice_is_refused_the_second_time():
    a, b = mp.Pipe()
    a.send(np.zeros(50_000))
    message = b.recv_bytes()
    pickle.loads(message)
    with pytest.raises(RuntimeError, match="unpickled before"):
        pickle.loads(message)


def test_a_sender_far_ahead_of_its_receiver_is_held_up_by_the_pipe():
    a, b = mp.Pipe()
    for _ in range(4):
        a.send(np.zeros(50_000))
    before = len(a._side_channel)
    a.send(np.zeros(10_000))  # through the pipe, as it would block if it were longer
    assert len(a._side_channel) == before == 4
    arrived = [b.recv() for _ in range(5)]
    assert [shared(data) for data in arrived] == [True] * 4 + [False]


def test_a_message_that_could_not_be_sent_leaves_nothing_behind():
    a, b = mp.Pipe()
    b.close()
    side_channel = a._side_channel
    with pytest.raises(BrokenPipeError):
        a.send(np.zeros(50_000))
    assert len(side_channel) == 0


def test_what_nobody_received_goes_with_the_pipe():
    data = np.zeros(1_000_000)
    counts = set()
    gc.collect()
    for _ in range(20):
        a, b = mp.Pipe()
        a.send(data)
        a.close()
        b.close()
        counts.add(_core._blocks())
    assert len(counts) == 1


def test_shared_objects_are_owned_by_the_pipe_while_they_are_on_their_way():
    a, b = mp.Pipe()
    counts = set()
    gc.collect()
    for _ in range(20):
        a.send(mp.Queue())
        q = b.recv()
        q.put(1)
        assert q.get(timeout=PATIENCE) == 1
        del q
        counts.add(_core._blocks())
    assert len(counts) == 1


def test_what_was_sent_far_ahead_goes_when_it_was_received():
    counts = set()
    gc.collect()
    for _ in range(5):
        a, b = mp.Pipe()
        for n in range(20):
            a.send([mp.ndarray((10_000,), "u1"), n])
        assert [b.recv()[1] for _ in range(20)] == list(range(20))
        a.close()
        b.close()
        counts.add(_core._blocks())
    assert len(counts) == 1


def test_an_end_that_was_sent_on_keeps_what_lies_beside_the_pipe(context):
    a, b = context.Pipe()
    q = context.Queue()
    b.send(np.full(50_000, 3))
    q.put(a)
    a.close()
    with q.get(timeout=PATIENCE) as again:
        assert again.recv()[0] == 3
        b.send(np.full(50_000, 4))
        assert again.recv()[0] == 4
        assert len(again._side_channel) == 0


def test_a_connection_made_of_a_descriptor_sends_plain_pickles():
    a, b = mp.Pipe()
    bare = mp.connection.Connection(os.dup(a.fileno()))
    bare.send(np.zeros(10_000))
    assert len(b.recv_bytes()) > 80_000
