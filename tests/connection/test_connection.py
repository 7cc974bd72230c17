"""Pipes and connections: messages through them, their ends, errors, and how they travel."""

from __future__ import annotations

import array
import contextlib
import gc
import os
import pickle
import resource
import select
import signal
import socket
import threading
import time

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, open_descriptors, running, until
from procession import reduction, resource_sharer
from procession.connection import Connection, Pipe, _ConnectionBase, wait
from programs import run


@pytest.fixture(params=["duplex", "one way"])
def pipe(request):
    receiver, sender = Pipe(request.param == "duplex")
    with receiver, sender:
        yield receiver, sender


@pytest.fixture
def no_descriptor_is_left_open():
    """Fails a test after which there are other descriptors than before, when nobody hands any out any more."""
    resource_sharer.stop(PATIENCE)
    gc.collect()
    before = open_descriptors()
    yield
    resource_sharer.stop(PATIENCE)
    until(lambda: open_descriptors() == before)


def echo(conn):
    while (message := conn.recv()) is not None:
        conn.send(message)


def send(conn, *objects):
    for obj in objects:
        conn.send(obj)


def tell_bytes(conn, size):
    conn.send_bytes(b"x" * size)


def use_received(conn):
    other = conn.recv()
    other.send(("through the received one", other.recv()))


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 1024, 1025, 16384, 65536, 65537, 3_000_000])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_objects_and_bytes_of_any_size_arrive_as_they_were_sent(pipe, size, kind):
    receiver, sender = pipe
    data = kind(os.urandom(size))
    thread = threading.Thread(target=lambda: (sender.send(data), sender.send_bytes(data), sender.send([data])))
    thread.start()
    received = receiver.recv()
    assert (type(received), received) == (kind, data)
    assert receiver.recv_bytes() == bytes(data)
    assert receiver.recv() == [data]
    thread.join()


def test_a_long_pickle_that_begins_like_bytes_is_still_what_it_is(pipe):
    receiver, sender = pipe
    data = os.urandom(100_000)
    lookalikes = [
        b"\x80\x04B" + len(data).to_bytes(4, "little") + data + b"\x85.",  # a tuple, and nothing memoized
        b"\x80\x04B" + len(data).to_bytes(4, "little") + data + b".",
        b"\x80\x04B" + len(data).to_bytes(4, "little") + data + b"\x94.",
        b"\x80\x04\x8e" + len(data).to_bytes(8, "little") + data + b"\x94.",
    ]
    for pickled, expected in zip(lookalikes, [(data,), data, data, data], strict=True):
        thread = threading.Thread(target=sender.send_bytes, args=(pickled,))
        thread.start()
        assert receiver.recv() == expected
        thread.join()


def test_parts_of_buffers_are_sent(pipe):
    receiver, sender = pipe
    numbers = array.array("i", range(5))
    sender.send_bytes(numbers, 4, 8)
    assert receiver.recv_bytes() == numbers[1:3].tobytes()
    sender.send_bytes(b"abcdef", 2)
    sender.send_bytes(memoryview(b"abcdef"), size=3)
    sender.send_bytes(b"abcdef", 6)
    assert [receiver.recv_bytes() for _ in range(3)] == [b"cdef", b"abc", b""]
    for arguments, what in [
        ((-1,), "offset is negative"),
        ((7,), "buffer length < offset"),
        ((0, -1), "size is negative"),
        ((3, 4), r"buffer length < offset \+ size"),
    ]:
        with pytest.raises(ValueError, match=what):
            sender.send_bytes(b"abcdef", *arguments)
    with pytest.raises(BufferError, match="contiguous"):
        sender.send_bytes(memoryview(b"abcdef")[::2])
    with pytest.raises(TypeError):
        sender.send_bytes("text")
    assert not receiver.poll()


def test_messages_are_received_into_buffers(pipe):
    receiver, sender = pipe
    numbers = array.array("d", bytes(32))
    sender.send_bytes(array.array("d", [1.5, 2.5]))
    assert receiver.recv_bytes_into(numbers, 8) == 16
    assert list(numbers) == [0, 1.5, 2.5, 0]
    sender.send_bytes(b"")
    assert receiver.recv_bytes_into(numbers, 32) == 0
    sender.send_bytes(b"too long")
    with pytest.raises(mp.BufferTooShort) as raised:
        receiver.recv_bytes_into(bytearray(7))
    assert raised.value.args == (b"too long",)
    sender.send_bytes(b"next")
    for wrong, error in [((bytearray(3), -1), ValueError), ((bytearray(3), 4), ValueError), ((b"xxxx",), TypeError)]:
        with pytest.raises(error):
            receiver.recv_bytes_into(*wrong)
    assert receiver.recv_bytes() == b"next"


def test_a_message_beyond_the_limit_is_refused_and_ends_receiving():
    for duplex in (True, False):
        receiver, sender = Pipe(duplex)
        with receiver, sender:
            sender.send_bytes(b"12345")
            with pytest.raises(ValueError, match="negative maxlength"):
                receiver.recv_bytes(-1)
            assert receiver.recv_bytes(5) == b"12345"
            sender.send_bytes(b"123456")
            with pytest.raises(OSError, match="bad message length"):
                receiver.recv_bytes(5)
            assert receiver.closed is not duplex
            assert not (duplex and receiver.readable)
            with pytest.raises(OSError):
                receiver.recv()


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\xff" * 12])
def test_an_impossible_length_is_an_error(head):
    receiver, sender = Pipe()
    with receiver, sender:
        os.write(sender.fileno(), head)
        with pytest.raises(OSError, match="bad message length"):
            receiver.recv()


def test_a_length_for_which_there_is_no_memory_is_a_memory_error():
    receiver, sender = Pipe()
    with receiver, sender:
        os.write(sender.fileno(), b"\xff\xff\xff\xff" + (1 << 62).to_bytes(8, "big") + b"xxxxxxxxxxxxxxxx")
        with pytest.raises(MemoryError, match="announces"):
            receiver.recv_bytes()
        with pytest.raises(OSError, match="in the midst"):
            receiver.recv()


def test_what_cannot_be_pickled_or_unpickled_harms_nothing(pipe):
    receiver, sender = pipe
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        sender.send(threading.Lock())
    sender.send_bytes(b"this is no pickle")
    sender.send("after it")
    with pytest.raises(pickle.UnpicklingError):
        receiver.recv()
    assert receiver.recv() == "after it"


def test_a_descriptor_that_does_not_block_serves_as_well():
    reader, writer = os.pipe()
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    with Connection(reader, writable=False) as receiver, Connection(writer, readable=False) as sender:
        thread = threading.Thread(target=sender.send, args=(bytes(1_000_000),))
        thread.start()
        assert receiver.recv() == bytes(1_000_000)
        thread.join()
        threading.Timer(0.05, sender.send, args=("late",)).start()
        assert receiver.recv() == "late"


def test_raw_reads_and_writes_mix_with_messages(pipe):
    receiver, sender = pipe
    sender.send_bytes(b"first")
    sender.send_bytes(b"second")
    os.write(sender.fileno(), b"\0\0\0\5third")
    assert receiver.recv_bytes() == b"first"
    assert os.read(receiver.fileno(), 10) == b"\0\0\0\6second"
    assert receiver.recv_bytes() == b"third"


# --- ends, errors -----------------------------------------------------------------------------------------------------


def test_the_end_is_an_end_of_file_and_in_a_message_an_error():
    receiver, sender = Pipe()
    with receiver:
        sender.send("last")
        os.write(sender.fileno(), b"\0\0\0\7half")
        sender.close()
        assert receiver.recv() == "last"
        with pytest.raises(OSError, match="end of file during message"):
            receiver.recv()
        assert receiver.poll()
        for _ in range(2):
            with pytest.raises(EOFError):
                receiver.recv()
        with pytest.raises(BrokenPipeError):
            receiver.send("to nobody")


def test_a_closed_connection_says_so(pipe):
    receiver, sender = pipe
    for conn in pipe:
        fd = conn.fileno()
        conn.close()
        conn.close()
        assert conn.closed
        assert conn._handle is None
        with pytest.raises(OSError):
            os.fstat(fd)
    for operation in (receiver.recv, receiver.poll, receiver.fileno, receiver.recv_bytes, lambda: wait([receiver])):
        with pytest.raises(OSError, match="handle is closed"):
            operation()
    with pytest.raises(OSError, match="handle is closed"):
        sender.send(1)


def test_the_ends_of_a_one_way_pipe_go_one_way():
    receiver, sender = Pipe(False)
    with receiver, sender:
        assert (receiver.readable, receiver.writable, sender.readable, sender.writable) == (True, False, False, True)
        with pytest.raises(OSError, match="read-only"):
            receiver.send(1)
        for operation in (sender.recv, sender.recv_bytes, sender.poll, lambda: sender.recv_bytes_into(bytearray(1))):
            with pytest.raises(OSError, match="write-only"):
                operation()


def test_a_connection_is_made_of_a_descriptor_and_closes_it():
    left, right = socket.socketpair()
    conn = Connection(left.detach())
    assert isinstance(conn, _ConnectionBase)
    right.sendall(b"\0\0\0\2hi")
    assert conn.recv_bytes() == b"hi"
    del conn
    assert right.recv(1) == b""
    right.close()
    for arguments in [(-1,), (0, False, False)]:
        with pytest.raises(ValueError):
            Connection(*arguments)
    with pytest.raises(AttributeError):
        Connection("no number")
    nonsense = Connection(44977608)
    with pytest.raises(OSError):
        nonsense.send(1)
    nonsense._handle = None


def test_ctrl_c_ends_waiting_for_a_message_and_loses_nothing(start_method):
    code = """
import _thread, os, signal, sys, threading, time
import procession as mp

receiver, sender = mp.Pipe({duplex})
def interrupt():
    for _ in range(3):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
for operation in (receiver.recv, lambda: receiver.poll(None), lambda: mp.connection.wait([receiver])):
    try:
        operation()
    except KeyboardInterrupt:
        print("interrupted")
sender.send("still whole")
print(receiver.recv())
"""
    code = "import procession.connection\n" + code.format(duplex=start_method == "spawn")
    assert run("-c", code).well() == "interrupted\n" * 3 + "still whole\n"


def test_an_exception_in_the_midst_of_a_message_ends_that_direction_loudly():
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    receiver, sender = Pipe()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with receiver, sender:
            os.write(sender.fileno(), b"\0\0\0\7half")
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                receiver.recv_bytes()
            with pytest.raises(OSError, match="in the midst of a message"):
                receiver.recv_bytes()
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                receiver.send_bytes(bytes(10_000_000))
            with pytest.raises(OSError, match="in the midst of a message"):
                receiver.send_bytes(b"x")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signals_whose_handlers_return_do_not_disturb_messages(pipe):
    receiver, sender = pipe
    rings = []
    before = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        data = os.urandom(5_000_000)
        thread = threading.Thread(target=lambda: [sender.send_bytes(data) for _ in range(5)])
        thread.start()
        assert all(receiver.recv_bytes() == data for _ in range(5))
        thread.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rings


def test_other_threads_run_while_one_waits_for_a_message_or_room():
    receiver, sender = Pipe(False)
    with receiver, sender:
        thread = threading.Thread(target=lambda: [sender.send_bytes(bytes(100_000)) for _ in range(20)])
        thread.start()
        asleep(os.getpid(), thread.native_id)
        for _ in range(20):
            receiver.recv_bytes()
        thread.join()


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_conversation_with_a_process(context):
    ours, theirs = context.Pipe()
    with ours, running(context, (echo, theirs)) as [process]:
        theirs.close()
        for message in (1, "two", [3.0, None], {"four": b"4" * 100_000}):
            ours.send(message)
            assert ours.recv() == message
        ours.send(None)
        assert ended(process) == [0]
        with pytest.raises(EOFError):
            ours.recv()


def test_a_killed_process_is_an_end_of_file(context):
    ours, theirs = context.Pipe()
    with ours, running(context, (echo, theirs)) as [process]:
        theirs.close()
        ours.send(1)
        assert ours.recv() == 1
        process.kill()
        with pytest.raises((EOFError, ConnectionResetError)):
            ours.recv()


def test_a_connection_travels_at_any_time(context):
    ours, theirs = context.Pipe()
    near, far = context.Pipe()
    with ours, near, running(context, (use_received, theirs)) as [process]:
        theirs.close()
        near.send("to be received")
        ours.send(far)
        assert near.poll(PATIENCE)
        assert near.recv() == ("through the received one", "to be received")
        assert ended(process) == [0]
        far.close()
        with pytest.raises(EOFError):
            near.recv()
    resource_sharer.stop(PATIENCE)


class Labelled(Connection):
    """A derived class that brings something of its own along."""


def test_a_derived_connection_stays_one_and_keeps_its_state(no_descriptor_is_left_open):
    left, right = socket.socketpair()
    conn = Labelled(left.detach())
    conn.label = "its label"
    again = pickle.loads(reduction.ForkingPickler.dumps(conn))
    assert (type(again), again.label) == (Labelled, "its label")
    conn.close()
    right.sendall(b"\0\0\0\1x")
    assert again.recv_bytes() == b"x"
    again.close()
    right.close()


def test_a_descriptor_is_fetched_once_and_by_a_forked_child_too(no_descriptor_is_left_open):
    reader, writer = os.pipe()
    offered = pickle.dumps(reduction.DupFd(writer))
    os.close(writer)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            fd = pickle.loads(offered).detach()
            os.write(fd, b"from the child")
            with contextlib.suppress(KeyError):
                pickle.loads(offered).detach()
                os._exit(2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reader, 100) == b"from the child"
    assert os.read(reader, 100) == b""  # nobody has kept a copy
    os.close(reader)


@contextlib.contextmanager
def no_free_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_free_descriptors_nothing_is_lost_and_the_error_says_so(no_descriptor_is_left_open):
    left, right = socket.socketpair()
    with left, right:
        reduction.sendfds(left, [0, 0])
        with no_free_descriptors():
            with pytest.raises(OSError, match="file descriptors free") as raised:
                reduction.recvfds(right, 2)
            assert raised.value.errno == 24
            with pytest.raises(OSError, match="Too many open files"):
                Pipe()
            with pytest.raises(OSError, match="Too many open files"):
                Pipe(False)
        for fd in reduction.recvfds(right, 2):
            os.close(fd)


def test_an_offered_descriptor_can_be_fetched_again_after_there_was_no_free_one(no_descriptor_is_left_open):
    reader, writer = os.pipe()
    offered = pickle.dumps(reduction.DupFd(writer))
    os.close(writer)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            duplicate = pickle.loads(offered)
            # there is one free number, for the connection, and none for what comes through it
            connect = resource_sharer._resource_sharer.get_connection
            with contextlib.ExitStack() as stack:

                def connect_and_be_full(identity):
                    conn = connect(identity)
                    stack.enter_context(no_free_descriptors())
                    return conn

                resource_sharer._resource_sharer.get_connection = connect_and_be_full
                with contextlib.suppress(OSError):
                    duplicate.detach()
                    os._exit(2)
            resource_sharer._resource_sharer.get_connection = connect
            until(lambda: _fetched(duplicate, b"at last"))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reader, 100) == b"at last"
    assert os.read(reader, 100) == b""
    os.close(reader)


def _fetched(duplicate, message):
    try:
        fd = duplicate.detach()
    except KeyError:
        return False
    os.write(fd, message)
    os.close(fd)
    return True


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_poll_tells_whether_there_is_something(pipe):
    receiver, sender = pipe
    assert receiver.poll() is False
    assert receiver.poll(0.01) is False
    assert receiver.poll(-1) is False
    sender.send(1)
    assert receiver.poll() is True
    assert receiver.poll(None) is True
    receiver.recv()
    threading.Timer(0.05, sender.send, args=(2,)).start()
    assert receiver.poll(PATIENCE) is True
    assert receiver.recv() == 2


def finish():
    pass


def test_wait_takes_whatever_can_be_ready(context):
    receiver, sender = Pipe(False)
    left, right = socket.socketpair()
    process = context.Process(target=finish)
    q, simple, event, reader = context.Queue(), context.SimpleQueue(), context.Event(), os.pipe()
    with receiver, sender, left, right:
        process.start()
        everything = [receiver, left, process.sentinel, q, simple, event, reader[0]]
        assert wait(everything, PATIENCE) == [process.sentinel]
        process.join()
        everything.remove(process.sentinel)
        assert wait(everything, 0) == []
        assert wait(everything, 0.05) == []
        for make_ready, obj, calm in [
            (lambda: sender.send(1), receiver, receiver.recv),
            (lambda: right.send(b"x"), left, lambda: left.recv(1)),
            (lambda: q.put(1), q, q.get),
            (lambda: simple.put(1), simple, simple.get),
            (event.set, event, event.clear),
            (lambda: os.write(reader[1], b"x"), reader[0], lambda: os.read(reader[0], 1)),
        ]:
            timer = threading.Timer(0.03, make_ready)
            timer.start()
            assert wait(everything, PATIENCE) == [obj]
            timer.join()
            calm()
        q.put(1)
        event.set()
        sender.send(1)
        assert wait(iter(everything)) == [receiver, q, event]
    for fd in reader:
        os.close(fd)


def test_wait_for_nothing_and_for_what_cannot_be_waited_for():
    began = time.monotonic()
    assert wait([], 0.05) == []
    assert time.monotonic() - began >= 0.05
    for wrong, error in [(["text"], TypeError), ([-1], ValueError), ([object(), 1], TypeError)]:
        with pytest.raises(error):
            wait(wrong, 0)


def test_wait_agrees_with_select_on_many(pipe):
    pipes = [Pipe() for _ in range(50)]
    for number, (_, sender) in enumerate(pipes):
        if number % 7 == 0:
            sender.send(number)
        elif number % 11 == 0:
            sender.close()
    receivers = [receiver for receiver, _ in pipes]
    ready = wait(receivers)
    assert ready == select.select(receivers, [], [], 0)[0]
    assert len(ready) == 8 + 4
    for ends in pipes:
        for conn in ends:
            conn.close()
