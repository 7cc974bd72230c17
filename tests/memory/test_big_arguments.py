"""Big arguments of processes: each child has a value of its own, and they are in memory once."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
from typing import Any

import pytest

import procession as mp
from deadlines import ended, running, until
from procession import _core

numpy = pytest.importorskip("numpy")

SIZE = 1 << 20
pytestmark = pytest.mark.start_methods("spawn", "forkserver")


def place(obj: Any) -> Any:
    """Where in family memory the bytes of an object lie, if that is known."""
    return _core.Snapshot.of(pickle.PickleBuffer(obj))._place()


def change_and_tell(log: Any, gate: Any, number: int, array: Any) -> None:
    where = place(array)
    was = array[0], array[-1], int(array.sum())
    array[0] = number
    log.put((number, where, was, array.flags.writeable))
    gate.wait()
    log.put((number, int(array[0])))


def test_children_have_an_array_each_and_it_is_in_memory_once(context):
    array = numpy.arange(SIZE, dtype=numpy.uint8)
    whole = 0, 255, int(array.sum())
    log, gate = context.SimpleQueue(), context.Event()
    with running(context, *((change_and_tell, log, gate, n, array) for n in range(1, 5))) as processes:
        told = [log.get() for _ in processes]
        assert sorted(number for number, *_ in told) == [1, 2, 3, 4]
        assert {tuple(where) for _, where, *_ in told} == {place(array)}
        assert {(was, writable) for _, _, was, writable in told} == {(whole, True)}
        gate.set()
        assert sorted(log.get() for _ in processes) == [(n, n) for n in range(1, 5)]
        assert ended(*processes) == [0] * 4
    assert int(array[0]) == 0


def tell_sum(log: Any, gate: Any, array: Any) -> None:
    log.put((place(array), int(array.sum())))
    gate.wait()


def test_what_was_changed_between_two_starts_is_changed_for_the_second_only(context):
    array = numpy.zeros(SIZE, dtype=numpy.uint8)
    log, gate = context.SimpleQueue(), context.Event()
    with running(context, (tell_sum, log, gate, array)) as [first]:
        before = log.get()
        array[SIZE // 2] = 7
        with running(context, (tell_sum, log, gate, array)) as [second]:
            after = log.get()
            gate.set()
            assert ended(first, second) == [0, 0]
    assert (before[1], after[1]) == (0, 7)
    assert before[0] != after[0]


def test_the_memory_goes_back_with_the_last_child_however_it_ends(context):
    log, gate = context.SimpleQueue(), context.Event()
    array = numpy.ones(SIZE, dtype=numpy.uint8)
    with running(context, *[(tell_sum, log, gate, array)] * 2) as [first, second]:
        where, _ = log.get()
        assert log.get() == (where, SIZE)
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        gc.collect()
        assert place(array) == where  # the second one has it
        second.kill()
        second.join()
    until(lambda: place(array) != where)  # a new one, each time


def tell_types(log: Any, *args: Any, **kwargs: Any) -> None:
    values = [*args, *kwargs.values()]
    for value in values:
        if type(value) is bytearray:
            value[0] = 1  # is it ours?
    log.put([(type(value).__name__, len(value), bytes(value[1:100])) for value in values])
    log.put([args[0] is args[1], args[0] is kwargs["again"]])


def test_big_bytes_arrive_as_what_they_are_and_the_same_ones_as_the_same(context):
    log = context.SimpleQueue()
    data, array = os.urandom(SIZE), bytearray(os.urandom(SIZE))
    process = context.Process(target=tell_types, args=(log, data, data, array), kwargs={"again": data})
    process.start()
    assert log.get() == [
        ("bytes", SIZE, data[1:100]),
        ("bytes", SIZE, data[1:100]),
        ("bytearray", SIZE, bytes(array[1:100])),
        ("bytes", SIZE, data[1:100]),
    ]
    assert log.get() == [True, True]
    assert ended(process) == [0]


class Keeper(mp.get_context("spawn").Process):  # type: ignore[misc]
    """Has its argument as an attribute, too."""

    def __init__(self, log: Any, data: bytearray) -> None:
        super().__init__(args=(data, {"nested": [data]}))
        self.log, self.data = log, data

    def run(self) -> None:
        first, others = self._args
        first[0] = 1
        self.log.put((first is others["nested"][0], first is self.data, self.data[0], type(first).__name__))


@pytest.mark.parametrize("size", [10, SIZE])
def test_a_bytearray_that_occurs_twice_is_one_in_the_child(size):
    log = mp.get_context("spawn").SimpleQueue()
    process = Keeper(log, bytearray(size))
    process.start()
    assert log.get() == (True, True, 1, "bytearray")
    assert ended(process) == [0]


def tell_whether_the_same(log: Any, call: Any, data: bytearray, others: list[bytearray]) -> None:
    log.put((data is others[0], call(data)))


def test_and_so_it_is_where_something_else_goes_by_value(context):
    log, data = context.SimpleQueue(), bytearray(SIZE)
    process = context.Process(target=tell_whether_the_same, args=(log, lambda data: len(data) + 1, data, [data]))
    process.start()
    assert log.get() == (True, SIZE + 1)
    assert ended(process) == [0]


class Careful(mp.get_context("spawn").Process):  # type: ignore[misc]
    """Looks at its arguments while it is pickled."""

    def __getstate__(self) -> dict[str, Any]:
        assert type(self._args[1]) is bytes
        return {**self.__dict__, "length": len(self._args[1])}

    def run(self) -> None:
        self._args[0].put((self.length, self._args[1] == bytes(SIZE)))  # type: ignore[attr-defined]


def test_a_class_that_sees_to_its_pickling_finds_its_arguments_as_they_are():
    log = mp.SimpleQueue()
    process = Careful(args=(log, bytes(SIZE)))
    process.start()
    assert log.get() == (SIZE, True)
    assert ended(process) == [0]


def hand_on(context: Any, log: Any, gate: Any, array: Any) -> None:
    log.put((place(array), int(array.sum())))
    with running(context, (tell_sum, log, gate, array)) as [process]:
        array[0] = 100  # after it was handed on
        assert ended(process) == [0]


def test_what_a_child_hands_on_unchanged_is_not_copied_again(context):
    array = numpy.ones(SIZE, dtype=numpy.uint8)
    log, gate = context.SimpleQueue(), context.Event()
    with running(context, (hand_on, context, log, gate, array)) as [process]:
        assert log.get() == (place(array), SIZE)
        assert log.get() == (place(array), SIZE)
        gate.set()
        assert ended(process) == [0]


def tell_layout(log: Any, *arrays: Any) -> None:
    log.put([(a.flags.c_contiguous, a.flags.f_contiguous, a.flags.writeable, a.shape, int(a.sum())) for a in arrays])


def test_arrays_of_any_layout_arrive_with_it(context):
    array = numpy.ones((1024, 1024), dtype=numpy.uint8)
    fixed = array.copy()
    fixed.flags.writeable = False
    log = context.SimpleQueue()
    with running(context, (tell_layout, log, array, numpy.asfortranarray(array), array[::2, ::2], fixed)) as [process]:
        assert log.get() == [
            (True, False, True, (1024, 1024), 1 << 20),
            (False, True, True, (1024, 1024), 1 << 20),
            (True, False, True, (512, 512), 1 << 18),
            # as pickle has it, what was read-only is the receiver's to write to
            (True, False, True, (1024, 1024), 1 << 20),
        ]
        assert ended(process) == [0]


def fork_and_compare(log: Any, array: Any) -> None:
    pid = os.fork()
    if not pid:
        array[0] = 50
        os._exit(int(array[0]))
    _, status = os.waitpid(pid, 0)
    log.put((os.waitstatus_to_exitcode(status), int(array[0])))


def test_a_forked_child_of_the_child_has_its_own(context):
    log = context.SimpleQueue()
    with running(context, (fork_and_compare, log, numpy.ones(SIZE, dtype=numpy.uint8))) as [process]:
        assert log.get() == (50, 1)
        assert ended(process) == [0]


def test_a_lambda_and_a_big_array_go_together(context):
    log = context.SimpleQueue()
    array = numpy.ones(SIZE, dtype=numpy.uint8)
    process = context.Process(target=lambda log, array: log.put(int(array.sum())), args=(log, array))
    process.start()
    assert log.get() == SIZE
    assert ended(process) == [0]


def test_a_start_that_fails_leaves_nothing_of_the_arguments(context):
    array = numpy.ones(SIZE, dtype=numpy.uint8)
    before = place(array)
    process = context.Process(target=print, args=(array, bytes(SIZE), sys.stdout))
    with pytest.raises(TypeError):
        process.start()
    until(lambda: place(array) != before)
    assert process._args[0] is array
    assert type(process._args[1]) is bytes
