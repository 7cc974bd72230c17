"""Values and arrays: ctypes objects in shared memory, with a lock and without."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pickle
import random
import signal
import time

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, until
from procession import _core, heap, reduction, sharedctypes


class Point(ctypes.Structure):
    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_double))


class Point3(Point):
    _fields_ = (("z", ctypes.c_short),)


class Either(ctypes.Union):
    _fields_ = (("whole", ctypes.c_uint32), ("half", ctypes.c_uint16))


class Named(ctypes.c_int * 3):
    """An array type with a name of its own."""


def family_memory() -> int:
    """Bytes of real memory that this process's family has."""
    from procession import _core

    return os.stat(f"/proc/self/fd/{_core.family_fd()}").st_blocks * 512


# --- what the child processes do --------------------------------------------------------------------------------------


def double(values, array, point, text):
    for value in values:
        value.value *= 2
    array[:] = [2 * n for n in array]
    point.x, point.y = point.x * 2, point.y * 2
    text.value *= 2


def add(count, *values):
    for _ in range(count):
        for value in values:
            with value.get_lock():
                value.get_obj().value += 1


def answer(inbox, outbox):
    """Sets the first item of what comes to 77, and sends it back."""
    while (thing := inbox.get()) is not None:
        if hasattr(thing, "value"):
            thing.value = 77
        else:
            thing[0] = 77
        outbox.put(thing)


def hold_and_write(value, ready):
    value.acquire()
    value.value = 5
    ready.set()
    time.sleep(60)


# --- in one process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(set(sharedctypes.typecode_to_type) - {"c", "u"}))
def test_every_typecode_makes_a_number_that_begins_at_zero(code):
    value = mp.Value(code)
    assert value.value == 0
    value.value = 7
    assert (value.value, value.get_obj().value) == (7, 7)
    assert mp.RawArray(code, [1, 2, 3])[:] == [1, 2, 3]


def test_characters_and_strings():
    assert mp.RawValue("u", "é").value == "é"
    text = mp.Array("c", 6)
    text.value = b"ab"
    assert (text.value, text.raw, len(text), text[1]) == (b"ab", b"ab\0\0\0\0", 6, b"b")
    text.raw = b"123456"
    assert text.value == b"123456"
    with pytest.raises(ValueError):
        text.value = b"too long"
    assert mp.Array("u", "wide").get_obj().value == "wide"
    assert mp.RawArray("c", b"abc").value == b"abc"


def test_structures_and_unions_have_their_fields():
    point = mp.Value(Point3, 1, 2.5, 3)
    assert (point.x, point.y, point.z) == (1, 2.5, 3)
    point.x = 9
    assert point.get_obj().x == 9
    either = mp.Value(Either, 0x10002)
    assert (either.whole, either.half) == (0x10002, 2)
    points = mp.Array(Point, [(1, 2), (3, 4)])
    assert points[1].y == 4


def test_slices_of_arrays_are_read_and_written():
    array = mp.Array("i", range(10))
    array[2:4] = [20, 30]
    assert array[1:5] == [1, 20, 30, 4]
    assert array[::-3] == [9, 6, 30, 0]
    with pytest.raises(ValueError):
        array[0:2] = [1]
    with pytest.raises(IndexError):
        array[10]
    assert list(array) == [0, 1, 20, 30, 4, 5, 6, 7, 8, 9]


def test_an_initializer_may_be_any_iterable():
    for items in (range(3), (0, 1, 2), {0, 1, 2}, iter([0, 1, 2]), bytearray(b"\0\1\2")):
        assert sharedctypes.RawArray("h", items)[:] == [0, 1, 2]
    assert len(mp.RawArray("i", 0)) == 0
    assert mp.RawArray("i", [])[:] == []


def test_what_is_no_type_or_no_size_is_refused():
    with pytest.raises(TypeError, match="bad typecode 'z'"):
        mp.Value("z")
    with pytest.raises(TypeError):
        mp.RawValue(int)
    with pytest.raises(ValueError):
        mp.RawArray("i", -1)
    with pytest.raises(ValueError):
        heap.BufferWrapper(-1)
    with pytest.raises(OverflowError):
        mp.RawArray("i", 2**70)


def test_a_lock_is_made_given_or_refused():
    lock = mp.Lock()
    assert mp.Value("i", lock=lock).get_lock() is lock
    assert type(mp.Array("i", 3).get_lock()) is type(mp.RLock())
    assert type(mp.Value("i", lock=None).get_lock()) is type(mp.RLock())
    assert not hasattr(mp.Value("i", lock=False), "get_lock")
    with pytest.raises(AttributeError, match="acquire"):
        mp.Value("i", lock="none")
    with pytest.raises(TypeError):
        sharedctypes.synchronized(mp.Value("i"))
    with pytest.raises(TypeError):
        sharedctypes.synchronized([1])


def test_a_value_waits_for_its_lock_whoever_has_it():
    import threading

    for lock in (mp.Lock(), mp.RLock(), threading.Lock(), mp.Semaphore(1)):
        value = mp.Value("i", 1, lock=lock)
        seen = []
        lock.acquire()
        thread = threading.Thread(target=lambda value=value, seen=seen: seen.append(value.value))
        thread.start()
        value.get_obj().value = 2
        time.sleep(0.01)
        assert not seen
        lock.release()
        thread.join(PATIENCE)
        assert seen == [2]
        value.value = 3
        assert value.get_obj().value == 3


def test_a_lock_with_methods_of_its_own_is_used_through_them():
    calls = []

    class Counting(type(mp.Lock())):  # type: ignore[misc]
        def __enter__(self):
            calls.append("in")
            return super().__enter__()

    value = sharedctypes.synchronized(mp.RawValue("i", 1), Counting())
    value.value += 1
    assert (value.value, calls) == (2, ["in", "in", "in"])


def test_an_item_waits_for_the_lock_of_its_array_whoever_has_it():
    import threading

    for lock in (mp.Lock(), mp.RLock(), threading.Lock(), mp.Semaphore(1)):
        array = mp.Array("i", [1, 2, 3], lock=lock)
        seen = []

        def look(array=array, seen=seen):
            array[0] += 40
            seen.append(array[1])

        lock.acquire()
        thread = threading.Thread(target=look)
        thread.start()
        array.get_obj()[0] = array.get_obj()[1] = 2
        time.sleep(0.01)
        assert not seen and array.get_obj()[0] == 2
        lock.release()
        thread.join(PATIENCE)
        assert (seen, array[:]) == ([2], [42, 2, 3])


def test_items_of_arrays_are_found_as_those_of_ctypes_arrays_are():
    import operator

    class Index:
        def __index__(self):
            return 1

    array = mp.Array("d", [1, 2, 3])
    assert (array[-1], array[True], array[Index()], array[::-2]) == (3.0, 2.0, 2.0, [3.0, 1.0])
    assert list(array) == [1.0, 2.0, 3.0] and 2.0 in array and operator.getitem(array, 0) == 1.0
    array[Index()] = 5
    array[2:] = [7]
    assert array[:] == [1.0, 5.0, 7.0]
    for index, error in [(3, IndexError), (-4, IndexError), (1 << 70, IndexError), ("x", TypeError)]:
        with pytest.raises(error):
            array[index]
        with pytest.raises(error):
            array[index] = 1
    with pytest.raises(TypeError):
        array[0] = "x"
    with pytest.raises(AttributeError):
        del array[0]
    assert array.get_lock().acquire(block=False)  # no error has kept it

    class Doubled(sharedctypes.SynchronizedArray):
        def __getitem__(self, i):
            return 2 * super().__getitem__(i)

    assert Doubled(array.get_obj(), mp.RLock())[1] == 10.0


def test_the_lock_is_free_after_an_error():
    value = mp.Value("i", 1)
    with pytest.raises(TypeError):
        value.value = "x"
    with pytest.raises(AttributeError):
        del value.value
    assert not value.get_lock().locked() if hasattr(value.get_lock(), "locked") else True
    assert value.value == 1


def test_a_copy_is_in_memory_of_its_own():
    point = mp.RawValue(Point, 1, 2)
    other, plain = sharedctypes.copy(point), sharedctypes.copy(Point(3, 4))
    point.x = 9
    assert (other.x, other.y, plain.x) == (1, 2, 3)
    assert pickle.loads(pickle.dumps(other)).x == 1
    for duplicate in (copy.copy(point), copy.deepcopy(point)):
        assert type(duplicate) is Point
        duplicate.x = 100
    assert point.x == 9


def test_shared_objects_are_of_the_type_that_was_asked_for():
    value, array, point = mp.RawValue("i", 7), mp.RawArray("d", 3), mp.RawValue(Point, 1, 2)
    assert isinstance(value, ctypes.c_int)
    assert isinstance(array, ctypes.c_double * 3)
    assert isinstance(point, Point)
    assert repr(value) == "c_int(7)"
    assert ctypes.sizeof(array) == 24
    pointer = ctypes.POINTER(ctypes.c_int)
    assert ctypes.cast(ctypes.pointer(value), pointer)[0] == 7
    assert pointer.from_param(ctypes.byref(value)) is not None


def test_ordinary_ctypes_objects_are_pickled_as_ever():
    mp.RawValue("i", 1)
    assert pickle.loads(pickle.dumps(ctypes.c_int(5))).value == 5
    assert pickle.loads(pickle.dumps(Point(1, 2))).y == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: mp.RawValue("d", 1),
        lambda: mp.RawArray("i", 4),
        lambda: sharedctypes.RawValue(Named),
        lambda: mp.Value("i", 1),
        lambda: mp.Array("l", 5),
    ],
)
def test_a_pickle_is_a_handle_of_the_same_memory(make):
    first = make()
    second = pickle.loads(pickle.dumps(first))
    if hasattr(first, "value"):
        second.value = 42
        assert first.value == 42
    else:
        second[1] = 42
        assert first[1] == 42


def test_the_other_byte_order_travels_too():
    queue, number = mp.Queue(), mp.RawValue(ctypes.c_int.__ctype_be__, 3)
    queue.put(number)
    queue.put([number])
    for other in (queue.get(), *queue.get()):
        other.value += 0x01020301
    assert (number.value, bytes(number)) == (0x02040605, bytes([2, 4, 6, 5]))


class Plain:
    pass


@pytest.mark.parametrize("kind", ["b", "B", "c", "i", ctypes.c_int.__ctype_be__, ctypes.c_double.__ctype_be__])
def test_no_shared_value_makes_what_is_sent_afterwards_slower(kind):
    value = mp.RawValue(kind)
    assert type(pickle.loads(reduction.ForkingPickler.dumps(value))) is type(value)
    _core._encode_small(Plain())  # a class is looked at once
    assert _core._encode_small(Plain()) is not None


def test_arrays_of_arrays_travel():
    grid = sharedctypes.RawArray(ctypes.c_int * 5 * 4, 3)
    other = pickle.loads(pickle.dumps(grid))
    other[2][3][4] = 9
    assert grid[2][3][4] == 9


def test_two_gigabytes_are_there_at_once_and_go_back():
    gc.collect()
    before = family_memory()
    array = mp.RawArray("b", 2 << 30)
    assert family_memory() - before < 1 << 20
    array[0], array[-1] = 1, 2
    for i in range(0, 64 << 20, 4096):
        array[i] = 1
    assert family_memory() - before > 60 << 20
    del array
    until(lambda: gc.collect() is not None and family_memory() - before < 2 << 20)


def test_an_array_is_zero_whatever_was_in_that_memory_before():
    queue = mp.Queue()
    for size in (10, 5_000, 100_000, 3_000_000):
        for _ in range(3):
            array = mp.RawArray("B", size)
            assert not any(memoryview(array).cast("B"))
            ctypes.memset(array, 255, size)
            del array
            queue.put(b"\xff" * size)
            queue.get()


def test_more_than_the_machine_has_is_a_memory_error():
    with pytest.raises(MemoryError, match="no memory for"):
        mp.RawArray("b", 1 << 39)


def test_values_take_no_descriptor():
    mp.Value("i")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    values = [mp.Value("i") for _ in range(500)] + [mp.RawArray("b", 5 << 20) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before
    assert len(values) == 520


def test_blocks_by_their_names_in_multiprocessing():
    block = heap.BufferWrapper(100)
    view = block.create_memoryview()
    view[:3] = b"abc"
    other = pickle.loads(pickle.dumps(block)).create_memoryview()
    assert (bytes(other[:4]), len(view), view.readonly) == (b"abc\0", 100, False)
    arena, start, stop = heap.Heap().malloc(10)
    assert (arena.size, len(arena.buffer), start, stop) == (10, 10, 0, 10)


def test_views_keep_the_memory_when_the_object_has_gone():
    view = memoryview(mp.RawArray("b", 5 << 20)).cast("B")
    gc.collect()
    view[0] = 1
    later = [mp.RawArray("b", 5 << 20) for _ in range(4)]
    assert view[0] == 1
    assert not any(array[0] for array in later)


# --- in several -------------------------------------------------------------------------------------------------------


def test_what_another_process_writes_is_seen_here(context):
    values = [context.Value("i", 3), context.RawValue("d", 1.5), context.Value("q", 2**40)]
    array, point, text = context.Array("i", range(5)), context.Value(Point, 1, 2), context.Array("c", 20)
    text.value = b"ab"
    with running(context, (double, values, array, point, text)) as children:
        assert ended(*children) == [0]
    assert [value.value for value in values] == [6, 3.0, 2**41]
    assert array[:] == [0, 2, 4, 6, 8]
    assert (point.x, point.y, text.value) == (2, 4, b"abab")


def test_no_increment_is_lost(context):
    one, other = context.Value("i", 0), context.Value("q", 0, lock=context.Lock())
    with running(context, *[(add, 300, one, other)] * 3) as children:
        assert ended(*children) == [0, 0, 0]
    assert (one.value, other.value) == (900, 900)


def test_they_travel_through_queues_at_any_time(context):
    inbox, outbox = context.Queue(), context.Queue()
    things = [
        context.Value("i"),
        context.RawValue("d"),
        context.Array("i", 3),
        context.RawArray("b", 3 << 20),
        context.RawValue(Named),
    ]
    with running(context, (answer, inbox, outbox)) as children:
        for thing in things:
            inbox.put(thing)
            back = outbox.get(timeout=PATIENCE)
            both = [x.value if hasattr(x, "value") else x[0] for x in (thing, back)]
            assert both == [77, 77]
        inbox.put(None)
        assert ended(*children) == [0]


def test_only_the_sender_need_not_keep_it_until_it_arrives():
    queue = mp.Queue()
    for n in range(20):
        queue.put(mp.RawArray("i", [n] * 1000))
        gc.collect()
    assert [queue.get()[999] for _ in range(20)] == list(range(20))


def test_the_holder_of_a_values_lock_is_killed_and_the_next_is_told(context):
    value, ready = context.Value("i", 1), context.Event()
    with running(context, (hold_and_write, value, ready)) as [child]:
        assert ready.wait(PATIENCE)
        child.kill()
        assert ended(child) == [-signal.SIGKILL]
    with pytest.raises(mp.OwnerDiedError):
        value.value  # noqa: B018
    assert value.value == 5


def grab_and_drop(seed):
    """Makes and drops arrays for ever; each must be zero."""
    dice = random.Random(seed)
    kept = []
    while True:
        size = dice.choice((10, 3_000, 50_000, 2_000_000))
        array = mp.RawArray("B", size)
        assert not any(bytes(array[: 1 << 16]))
        ctypes.memset(array, 7, size)
        kept = [*kept[-5:], array]


def test_killed_owners_of_arrays_leave_no_memory_behind():
    from procession import _core

    context = mp.get_context("fork")
    mp.RawArray("b", 10)
    gc.collect()
    before = family_memory()
    for round in range(6):
        child = context.Process(target=grab_and_drop, args=(round,))
        child.start()
        time.sleep(0.05)
        assert child.is_alive()
        child.kill()
        assert ended(child) == [-signal.SIGKILL]
    _core.sweep()
    # what a family keeps warm is bounded
    assert family_memory() - before < 40 << 20
