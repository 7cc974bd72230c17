"""Pickling between processes: reducers, descriptors, and queues as classes that others derive from."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import queue
import socket
import threading

import pytest

import procession as mp
from deadlines import PATIENCE, ended, open_descriptors, running
from procession import queues, reduction, resource_sharer
from programs import run


class Counted(queues.Queue):
    """The well-known recipe of a queue that brings something of its own along."""

    def __init__(self, label, **kwargs):
        super().__init__(**kwargs)
        self.label = label

    def __getstate__(self):
        return (*super().__getstate__(), self.label)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.label = state[-1]


class Reporting(queues.Queue):
    """As concurrent.futures derives from Queue: with what cannot be pickled, and the hook."""

    def __init__(self, *, ctx):
        super().__init__(2, ctx=ctx)
        self.guard = threading.Lock()
        self.reported = []

    def _on_queue_feeder_error(self, e, obj):
        self.reported.append((type(e), obj))


class Printing(queues.Queue):
    @staticmethod
    def _on_queue_feeder_error(e, obj):
        queues.Queue._on_queue_feeder_error(e, obj)


class Fed(queues.Queue):
    """As other libraries derive from multiprocessing's queue: with a feeder of its own that pickles in its own way,
    and sent as the pieces that it would have there."""

    def __init__(self, mark, *, maxsize=0, ctx):
        super().__init__(maxsize, ctx=ctx)
        self._mark = mark

    def __getstate__(self):
        return self._maxsize, self._reader, self._writer, self._mark, self._rlock, self._wlock, self._sem, self._opid

    def __setstate__(self, state):
        self._maxsize, self._reader, self._writer, self._mark, self._rlock, self._wlock, self._sem, self._opid = state
        self._reset()

    @staticmethod
    def _feed(buffer, notempty, send_bytes, writelock, close, mark, onerror, queue_sem):
        while True:
            with notempty:
                if not buffer:
                    notempty.wait()
            obj = buffer.popleft()
            if obj is queues._sentinel:
                close()
                return
            try:
                with writelock:
                    send_bytes(pickle.dumps((mark, obj)))
            except Exception as error:
                queue_sem.release()
                onerror(error, obj)

    def close(self):
        self._reader.close()
        self._writer.close()


class FedAndReporting(Fed):
    def _on_queue_feeder_error(self, e, obj):
        self._mark = type(e).__name__


def tell_label(q):
    q.put(q.label)


def pass_bytes_on(reader, writer):
    writer.send_bytes(reader.recv_bytes())


def put(q, obj):
    q.put(obj)


# --- pickling ---------------------------------------------------------------------------------------------------------


def test_a_registered_reducer_is_used_by_pickler_queue_and_start(start_method):
    code = f"""
import copyreg, pickle
import procession as mp
from procession.reduction import ForkingPickler

def rebuild(word):
    return "rebuilt " + word

class Thing:
    pass

class Other:
    pass

def tell(q, thing):
    q.put(thing)

if __name__ == "__main__":
    ForkingPickler.register(Thing, lambda thing: (str.upper, ("reduced",)))
    copyreg.pickle(Other, lambda other: (str.upper, ("by copyreg",)))
    print(pickle.loads(ForkingPickler.dumps(Thing())), type(pickle.loads(pickle.dumps(Thing()))).__name__)
    print(ForkingPickler.loads(ForkingPickler.dumps([Other()])))
    q = mp.Queue()
    q.put([Thing(), Other()])
    print(q.get())
    if {start_method!r} != "fork":
        process = mp.get_context({start_method!r}).Process(target=q.put, args=(Thing(),))
        process.start()
        print(q.get(timeout=PATIENCE))
        process.join()
"""
    out = run("-c", code).well().splitlines()
    assert out[:3] == ["REDUCED Thing", "['BY COPYREG']", "['REDUCED', 'BY COPYREG']"]
    assert out[3:] == ([] if start_method == "fork" else ["REDUCED"])


def test_a_pickler_takes_reducers_for_itself_alone():
    file = io.BytesIO()
    pickler = reduction.ForkingPickler(file)
    pickler.dispatch_table[Counted] = lambda _: (str, ("mine",))
    pickler.dump(Counted("label"))
    assert pickle.loads(file.getvalue()) == "mine"
    assert Counted not in reduction.ForkingPickler._extra_reducers


def test_a_socket_can_be_pickled_at_any_time():
    left, right = socket.socketpair()
    with left, right:
        with pickle.loads(reduction.ForkingPickler.dumps(left)) as again:
            again.sendall(b"through a copy")
        assert right.recv(100) == b"through a copy"
    resource_sharer.stop(PATIENCE)


def test_the_reducer_can_be_replaced(start_method):
    if start_method == "fork":
        pytest.skip("nothing is pickled")
    code = f"""
import procession as mp
from procession import reduction

class Mine(reduction.AbstractReducer):
    def dump(self, obj, file, protocol=None):
        print("dump", type(obj).__name__)
        reduction.dump(obj, file, protocol)

context = mp.get_context({start_method!r})
context.reducer = Mine()
process = context.Process(target=print, args=("child",))
process.start()
process.join()
"""
    kind = {"spawn": "SpawnProcess", "forkserver": "ForkServerProcess"}[start_method]
    assert sorted(run("-c", code).well().splitlines()) == ["child", f"dump {kind}", "dump dict"]


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_descriptors_travel_through_a_socket():
    before = open_descriptors()
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    with left, right:
        reduction.sendfds(left, [reader, writer])
        again_reader, again_writer = reduction.recvfds(right, 5)
        assert not os.get_inheritable(again_reader)
        os.write(again_writer, b"through a copy")
        assert os.read(reader, 100) == b"through a copy"
        reduction.send_handle(left, reader, None)
        third = reduction.recv_handle(right)
        left.close()
        with pytest.raises(EOFError):
            reduction.recvfds(right, 1)
    for fd in (reader, writer, again_reader, again_writer, third):
        os.close(fd)
    assert open_descriptors() == before


@pytest.mark.parametrize("sent", [b"\0", b"\1", b"\7"])
def test_a_message_without_descriptors_is_an_error(sent):
    left, right = socket.socketpair()
    with left, right:
        left.send(sent)
        with pytest.raises(RuntimeError, match="descriptors came"):
            reduction.recvfds(right, 1)


def test_descriptors_that_were_not_announced_are_closed():
    before = open_descriptors()
    left, right = socket.socketpair()
    with left, right:
        socket.send_fds(left, [b"\2"], [0])
        with pytest.raises(RuntimeError, match="1 descriptors came"):
            reduction.recvfds(right, 5)
    assert open_descriptors() == before


def test_a_handle_travels_though_sockets_have_a_default_timeout():
    left, right = socket.socketpair()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        with left, right:
            reduction.send_handle(left, 0, None)
            os.close(reduction.recv_handle(right))
            assert os.get_blocking(left.fileno())
            assert os.get_blocking(right.fileno())
    finally:
        socket.setdefaulttimeout(before)


# --- queues as base classes -------------------------------------------------------------------------------------------


def test_a_derived_queue_brings_its_own_state_along(context):
    q = Counted("its label", ctx=context)
    with running(context, (tell_label, q)) as [process]:
        assert q.get(timeout=PATIENCE) == "its label"
        assert ended(process) == [0]
    again = pickle.loads(pickle.dumps(q))
    assert (type(again), again.label) == (Counted, "its label")
    again.put(1)
    assert q.get(timeout=PATIENCE) == 1


def test_a_derived_queue_that_wants_to_hear_of_errors_hears_of_them_instead_of_raising(context):
    q = Reporting(ctx=context)
    thing = threading.Lock()
    q.put(thing)
    q.put_nowait(thing)
    assert [obj for _, obj in q.reported] == [thing, thing]
    assert q.empty()
    q.put(1)
    q.put(2)
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    assert [q.get(), q.get()] == [1, 2]
    with running(context, (put, q, "from a child")):
        assert q.get(timeout=PATIENCE) == "from a child"
    q.close()
    with pytest.raises(ValueError, match="is closed"):
        q.put(thing)
    assert len(q.reported) == 2


def test_a_derived_queue_with_a_feeder_of_its_own_has_it_called_by_put(context):
    q = Fed("marked", maxsize=2, ctx=context)
    with running(context, (put, q, "hello")) as [process]:
        assert q.get(timeout=PATIENCE) == ("marked", "hello")
        assert ended(process) == [0]
    q.put(1)
    q.put(2, timeout=PATIENCE)
    with pytest.raises(queue.Full):
        q.put_nowait(3)
    assert pickle.loads(q._reader.recv_bytes()) == ("marked", 1)  # as it was pickled
    assert q.get() == ("marked", 2)
    q.close()
    assert q.closed and q._reader.closed
    with pytest.raises(ValueError, match="is closed"):
        q.put(1)


def test_a_feeder_deals_with_what_it_cannot_pickle(context):
    q = FedAndReporting("marked", ctx=context)
    q.put(threading.Lock())
    assert q._mark == "TypeError" and q.empty()
    q.put(1)
    assert q.get() == ("TypeError", 1)


def test_the_ends_of_a_queue_can_be_sent_without_it(context):
    q, back = context.Queue(), context.Queue()
    reader, writer = pickle.loads(pickle.dumps((q._reader, back._writer)))
    with running(context, (pass_bytes_on, reader, writer)) as [process]:
        q.put({"a": lambda: 1})  # by value, which a plain pickle of it would not manage
        assert back.get(timeout=PATIENCE)["a"]() == 1
        assert ended(process) == [0]


def test_the_hook_of_the_base_class_prints_the_exception():
    q = Printing()
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        q.put(threading.Lock())
    assert "Traceback" in printed.getvalue()
    assert q.empty()


def test_a_closed_queue_is_found_empty_only_if_it_was_not_in_use():
    unused, used = mp.Queue(), mp.Queue()
    used.put(1)
    for q in (unused, used):
        with pytest.raises(AssertionError, match="not closed"):
            q.join_thread()
        q.close()
        q.join_thread()
    assert unused.empty()
    with pytest.raises(OSError, match="is closed"):
        used.empty()


def test_a_simple_queue_passes_objects_on_until_it_is_closed(context):
    q = context.SimpleQueue()
    with running(context, (put, q, {"a": 1})) as [process]:
        assert q.get() == {"a": 1}
        assert ended(process) == [0]
    assert q.empty()
    q.put(1)
    assert not q.empty()
    q.close()
    q.close()
    for operation in (q.empty, q.get, lambda: q.put(1)):
        with pytest.raises(OSError, match="is closed"):
            operation()


def test_queue_types_can_be_parametrised():
    assert queues.Queue[int].__origin__ is queues.Queue
    assert queues.SimpleQueue[int].__origin__ is queues.SimpleQueue
