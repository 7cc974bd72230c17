"""What a receiver gets belongs to it: an array that was read-only where it came from can be written to, whichever way
it came, and the sender's stays as it was.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import pytest

import procession as mp
from deadlines import PATIENCE, ended
from procession.futures import ProcessPoolExecutor

# in the message, out of it, and too big for a page to be mapped
SIZES = [10, 5_000, 400_000]


@pytest.fixture(params=SIZES)
def array(request: pytest.FixtureRequest) -> Any:
    """An array of ones that cannot be written to, nor can what it is a view of."""
    made = np.frombuffer(b"\1" * request.param, np.uint8)
    assert not made.flags.writeable
    return made


def doubled(array: Any) -> int:
    """Writes to an array and returns the sum of what it holds then."""
    array *= 2
    return int(array.sum())


def double_from(connection: Any) -> None:
    connection.send(doubled(connection.recv()))


def double_and_put(array: Any, queue: Any) -> None:
    queue.put(doubled(array))


def test_an_array_from_a_queue(array):
    queue = mp.Queue()
    queue.put(array)
    queue.put([array, {"a": array[1:]}])
    assert doubled(queue.get()) == 2 * len(array)
    whole, rest = queue.get()
    assert doubled(whole) == 2 * len(array) and doubled(rest["a"]) == 2 * (len(array) - 1)
    assert array[0] == 1


def test_an_array_from_a_simple_queue_and_one_that_was_moved(array):
    queue = mp.SimpleQueue()
    queue.put(array)
    queue.put(mp.move(array))
    assert doubled(queue.get()) == doubled(queue.get()) == 2 * len(array)
    queue.put(mp.move(array))
    received = queue.get()
    queue.put(mp.move(received))
    assert doubled(queue.get()) == 2 * len(array) and array[0] == 1


def test_an_array_through_a_pipe_into_a_child(start_method, array):
    context = mp.get_context(start_method)
    ours, theirs = mp.Pipe()
    process = context.Process(target=double_from, args=(theirs,))
    process.start()
    ours.send(array)
    assert ours.poll(PATIENCE) and ours.recv() == 2 * len(array)
    ended(process)


@pytest.mark.start_methods("spawn", "forkserver")  # a fork has the parent's own array
def test_an_array_among_the_arguments_of_a_process(start_method, array):
    context = mp.get_context(start_method)
    queue = context.Queue()
    process = context.Process(target=double_and_put, args=(array, queue))
    process.start()
    assert queue.get(timeout=PATIENCE) == 2 * len(array)
    ended(process)


def test_an_array_among_the_arguments_and_results_of_tasks(array):
    with mp.get_context("fork").Pool(1) as pool:
        assert pool.apply(doubled, (array,)) == 2 * len(array)
        assert pool.map(doubled, [array] * 3) == [2 * len(array)] * 3
        assert doubled(pool.apply(np.frombuffer, (b"\1" * len(array), np.uint8))) == 2 * len(array)
        assert pool.apply_async(doubled, (array,), retries=2).get(PATIENCE) == 2 * len(array)


def test_an_array_among_the_arguments_of_futures(array):
    with ProcessPoolExecutor(1, mp_context=mp.get_context("fork")) as executor:
        assert executor.submit(doubled, array).result(PATIENCE) == 2 * len(array)


def test_an_array_from_a_shared_dictionary_and_a_manager(array):
    shared = mp.SharedDict()
    shared["a"] = array
    assert doubled(shared["a"]) == 2 * len(array) and shared["a"][0] == 1
    with mp.get_context("fork").Manager() as manager:
        managed = manager.dict(a=array)
        managed["b"] = array
        assert doubled(managed["a"]) == doubled(managed["b"]) == 2 * len(array)


class Lender:
    """Pickles as a buffer that cannot be written to, as immutable types do."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (Lender, (pickle.PickleBuffer(self.data),)) if protocol >= 5 else (Lender, (bytes(self.data),))


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_says_to_whom_it_may_concern_that_it_was_read_only(size):
    queue = mp.Queue()
    queue.put(Lender(os.urandom(size)))
    assert memoryview(queue.get().data).readonly
    queue.put(Lender(bytearray(size)))
    assert not memoryview(queue.get().data).readonly
