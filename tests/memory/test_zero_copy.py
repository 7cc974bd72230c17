"""Large data: copied into shared memory once, and not copied out; given back when nobody has it any more."""

from __future__ import annotations

import array
import gc
import os
import pickle
import signal
import threading
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, until
from procession import _core
from programs import run

np = pytest.importorskip("numpy")


def memory() -> int:
    """Bytes of real memory that the family has."""
    return os.fstat(_core.family_fd()).st_blocks * 512


def echo(inbox, outbox):
    while (item := inbox.get()) is not None:
        outbox.put(item)


def change_and_return(inbox, outbox):
    data = inbox.get()
    data += 1
    outbox.put(mp.move(data))


def hold_and_wait(inbox, outbox):
    data = inbox.get()
    outbox.put(len(data))
    signal.pause()


def base_of(data: Any) -> Any:
    while getattr(data, "base", None) is not None:
        data = data.base
    return data.obj if isinstance(data, memoryview) else data


@pytest.mark.parametrize("dtype", ["float64", "int8", "complex64", "datetime64[s]", "U5", "f8,i4"])
def test_arrays_arrive_as_they_were_in_memory_of_the_family(context, dtype):
    there, back = context.Queue(), context.Queue()
    data = np.zeros((300, 50), dtype=dtype)
    data[::7] = data.ravel()[0:1] if dtype in ("U5", "f8,i4") else 3
    with running(context, (echo, there, back)) as [process]:
        there.put(data)
        there.put(np.asfortranarray(data))
        there.put(data[::2, ::3])
        there.put({"deep": [data, data], "small": np.arange(3)})
        first, fortran, strided, deep = (back.get(timeout=PATIENCE) for _ in range(4))
        there.put(None)
        assert ended(process) == [0]
    for arrived, sent in ((first, data), (fortran, data), (strided, data[::2, ::3])):
        assert arrived.dtype == sent.dtype
        assert arrived.flags.writeable
        assert np.array_equal(arrived, sent)
    assert fortran.flags.f_contiguous
    assert deep["deep"][0] is deep["deep"][1]
    assert list(deep["small"]) == [0, 1, 2]
    if dtype != "datetime64[s]":  # which numpy itself does not send out of band
        assert isinstance(base_of(first), _core.SharedBytes)


def test_a_received_array_is_the_receivers_alone():
    q = mp.Queue()
    data = np.arange(10_000.0)
    q.put(data)
    q.put(data)
    data[:] = -1
    first, second = q.get(), q.get()
    first[:] = 5
    assert list(second[:3]) == [0, 1, 2]
    assert first.flags.aligned
    assert first.ctypes.data % 64 == 0


def test_what_was_read_only_is_the_receivers_to_write_to():
    q = mp.Queue()
    data = np.arange(10_000.0)
    data.flags.writeable = False
    q.put(data)
    arrived = q.get()
    arrived[0] = 7.0  # as with multiprocessing, whose pickles know nothing of the flag
    assert data[0] == 0.0


def test_more_arrays_than_a_message_carries_arrive():
    q = mp.Queue()
    lock = mp.Lock()
    q.put([lock, *[np.full(1000, number) for number in range(200)]])
    arrived, *arrays = q.get()
    with arrived:
        assert [int(data[-1]) for data in arrays] == list(range(200))
    assert isinstance(base_of(arrays[0]), _core.SharedBytes)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 100_000, 3_000_000])
def test_bytearrays_and_arrays_and_buffers_of_any_size_arrive(size):
    q = mp.Queue()
    content = os.urandom(size)
    for data in (bytearray(content), array.array("B", content), pickle.PickleBuffer(bytearray(content))):
        q.put(data)
        arrived = q.get()
        assert bytes(arrived) == content
        if not isinstance(data, pickle.PickleBuffer):
            assert type(arrived) is type(data)
        memoryview(arrived)[:1] = b"x"[:size]  # writable


def test_buffers_and_tables_of_pyarrow_arrive_without_a_copy():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    q = mp.Queue()
    table = pa.table({"numbers": np.arange(100_000), "words": ["word"] * 100_000})
    q.put([pa.py_buffer(bytes(100_000)), table])
    buffer, arrived = q.get()
    assert buffer.to_pybytes() == bytes(100_000)
    assert arrived.equals(table)
    start, end = family_memory()
    assert start <= buffer.address < end
    assert start <= arrived.column("numbers").chunk(0).buffers()[1].address < end


def family_memory() -> tuple[int, int]:
    """Where this process sees the memory of its family."""
    inode = os.fstat(_core.family_fd()).st_ino
    with open("/proc/self/maps") as maps:
        places = [line.split() for line in maps]
    starts, ends = zip(*(map(lambda x: int(x, 16), p[0].split("-")) for p in places if p[4] == str(inode)), strict=True)
    return min(starts), max(ends)


@pytest.mark.parametrize("typecode", array.typecodes.replace("u", ""))  # which is deprecated, and goes by pickle
@pytest.mark.parametrize("items", [0, 1, 1000, 40_000])
def test_an_array_of_the_array_module_arrives_without_pickle(typecode, items):
    q = mp.Queue()
    data = array.array(typecode, bytes(range(array.array(typecode).itemsize - 1, -1, -1)).replace(b"\3", b"\0")) * items
    q.put(data)
    arrived = q.get()
    assert type(arrived) is array.array
    assert arrived.typecode == typecode
    assert arrived.tobytes() == data.tobytes()
    if items:
        arrived.append(arrived[0])  # it can be resized


def test_the_way_in_which_a_program_pickles_its_arrays_is_honoured():
    # in an interpreter of its own: what `managers` registers for arrays goes before copyreg, as in multiprocessing
    code = """
import array, copyreg, procession as mp
copyreg.pickle(array.array, lambda data: (list, (data.tolist(),)))
q = mp.Queue()
q.put(array.array("i", [1, 2]))
print(q.get())
"""
    assert run("-c", code).well() == "[1, 2]\n"


def test_a_moved_array_comes_back_without_a_copy(context):
    there, back = context.Queue(), context.Queue()
    data = np.zeros(500_000)
    with running(context, (change_and_return, there, back)) as [process]:
        there.put(data)
        arrived = back.get(timeout=PATIENCE)
        assert ended(process) == [0]
    assert arrived[0] == arrived[-1] == 1
    assert data[0] == 0
    q = mp.Queue()
    before = memory()
    for _ in range(20):
        q.put(mp.move(arrived))
        same = q.get()
        assert same.ctypes.data == arrived.ctypes.data
        arrived = same
    assert memory() <= before + (1 << 20)


def test_moving_what_is_not_in_family_memory_copies_it_once():
    q = mp.Queue()
    data = np.arange(10_000)
    q.put([mp.move(data), {"word": mp.move("plain")}, mp.move({"lock": mp.Lock(), "data": data})])
    first, second, third = q.get()
    data[:] = 0
    assert first[5] == third["data"][5] == 5
    assert second == {"word": "plain"}
    with third["lock"]:
        pass
    assert repr(mp.move("plain")) == "move('plain')"


def test_memory_comes_back_when_the_array_is_forgotten():
    q = mp.Queue()
    data = np.ones(4_000_000)  # 32 MB
    for _ in range(30):
        q.put(data)
        arrived = q.get()
        assert arrived[-1] == 1
    del arrived
    gc.collect()
    assert memory() < 400e6


def test_memory_comes_back_when_the_process_that_had_it_is_killed(context):
    there, back = context.Queue(), context.Queue()
    data = np.ones(2_000_000)
    there.put(data)
    with running(context, (hold_and_wait, there, back)) as [process]:
        assert back.get(timeout=PATIENCE) == len(data)
        held = memory()
        process.kill()
        assert ended(process) == [-signal.SIGKILL]
    # what the dead had serves the next message, or is with the machine again
    there.put(data)
    assert memory() <= held + (1 << 20)


def test_a_queue_that_held_much_gives_it_back(request):
    """Many messages of a size that lies in segments, and a few big ones."""
    q = mp.Queue()
    before = memory()
    for _ in range(40_000):
        q.put(bytes(16_000))
    q.put_many(bytes(1_000_000) for _ in range(100))
    assert memory() - before > 700e6
    while not q.empty():
        q.get_many(1000)
    until(lambda: memory() - before < 350e6)


def test_an_idle_queue_takes_less_than_4_kib():
    mp.Queue().put(1)
    before = memory()
    queues = [mp.Queue() for _ in range(500)]
    for q in queues:
        q.put(1)
        assert q.get() == 1
    assert (memory() - before) / len(queues) < 4096


# --- errors say where -------------------------------------------------------------------------------------------------


class Stubborn:
    def __reduce__(self):
        return broken, (1,)


def broken(_):
    raise RuntimeError("cannot be made")


def test_the_error_names_the_place_of_what_cannot_be_pickled():
    q = mp.Queue()
    with pytest.raises(TypeError) as caught:
        q.put({"jobs": [1, (2, threading.Lock())]})
    [note] = [note for note in caught.value.__notes__ if "to be sent" in note]  # Python has notes of its own to add
    assert "dict, because of what is at ['jobs'][1][1]: _thread.lock" in note
    assert q.empty()


def test_the_error_names_what_could_not_be_unpickled_and_the_queue_goes_on():
    q = mp.Queue()
    q.put([Stubborn()])
    q.put("next")
    with pytest.raises(RuntimeError, match="cannot be made") as caught:
        q.get()
    assert "broken" in "\n".join(caught.value.__notes__)
    assert q.get() == "next"


# --- many at once -----------------------------------------------------------------------------------------------------


def test_many_items_of_all_kinds_keep_their_order(context):
    there, back = context.Queue(), context.Queue()
    items = [None, 1, "a", (1, [2]), b"x" * 50_000, np.arange(2000), {"k": mp.Lock()}, *range(3000), bytearray(5)]
    with running(context, (echo, there, back)) as [process]:
        for item in items[1:]:
            there.put(item)
        got: list[Any] = []
        while len(got) < len(items) - 1:
            got += back.get_many(700, timeout=PATIENCE)
        there.put(None)
        assert ended(process) == [0]
    assert got[:3] == items[1:4]
    assert got[-1] == bytearray(5)
    assert got[6:-1] == list(range(3000))


def test_put_many_stops_at_what_cannot_be_sent_and_says_how_many_were():
    q = mp.Queue()
    with pytest.raises(TypeError) as caught:
        q.put_many([1, 2, threading.Lock(), 3])
    assert caught.value.__notes__[-1] == "2 items were put"
    assert q.get_many(10) == [1, 2]
    bounded = mp.Queue(3)
    with pytest.raises(mp.queues.Full) as full:  # type: ignore[attr-defined]
        bounded.put_many(range(5), timeout=0.01)
    assert full.value.__notes__ == ["3 items were put"]
    assert bounded.get_many(10) == [0, 1, 2]


def test_get_many_loses_no_item_to_one_that_cannot_be_unpickled():
    q = mp.Queue()
    q.put_many([1, Stubborn(), 2, Stubborn(), 3])
    assert q.get_many(10) == [1, 2, 3]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be made"):
            q.get(timeout=PATIENCE)
    q.put(4)
    assert q.get_many(10) == [4]
    with pytest.raises(ValueError, match="at least one"):
        q.get_many(0)


def test_a_bounded_queue_takes_many_as_it_is_emptied(context):
    there, back = context.Queue(2), context.Queue()
    with running(context, (echo, there, back)) as [process]:
        there.put_many([*range(100), None])
        assert [back.get(timeout=PATIENCE) for _ in range(100)] == list(range(100))
        assert ended(process) == [0]
