"""Deliberate differences that no other file has a test for: see docs/differences.md."""

from __future__ import annotations

import itertools

import pytest

import procession as mp
from deadlines import PATIENCE, ended
from procession import heap
from programs import run, write


def test_a_queue_that_finds_no_memory_raises_in_put_and_is_as_it_was():
    code = """if True:
    import resource
    import procession as mp
    resource.setrlimit(resource.RLIMIT_FSIZE, (192 << 20,) * 2)
    queue = mp.Queue()
    queue.put("first")
    count = 0
    try:
        while True:
            queue.put(b"x" * (1 << 20))
            count += 1
    except MemoryError as error:
        assert "no memory for" in str(error)
    assert queue.qsize() == count + 1 and queue.get() == "first"
    for _ in range(count):
        assert queue.get() == b"x" * (1 << 20)
    queue.put("there is room again")
    print(queue.get())
    """
    assert run("-c", code).well() == "there is room again\n"


def pass_on(lock, there, back):
    with lock:
        back.put(there.get())


@pytest.mark.parametrize(("made", "used"), [*itertools.permutations(["fork", "spawn", "forkserver"], 2)])
def test_objects_of_one_context_work_in_processes_of_another(made, used):
    context = mp.get_context(made)
    there, back = context.Queue(), context.SimpleQueue()
    process = mp.get_context(used).Process(target=pass_on, args=(context.Lock(), there, back))
    process.start()
    there.put("hello")
    assert ended(process) == [0]
    assert back.get() == "hello"


def write_into(wrapper):
    wrapper.create_memoryview()[:5] = b"hello"


def test_a_piece_of_the_heap_is_shared_and_freed_by_nobody_in_particular(start_method):
    wrapper = heap.BufferWrapper(100)
    assert len(wrapper.create_memoryview()) == 100
    process = mp.get_context(start_method).Process(target=write_into, args=(wrapper,))
    process.start()
    assert ended(process) == [0]
    assert bytes(wrapper.create_memoryview()[:6]) == b"hello\0"
    own = heap.Heap()
    arena, start, stop = own.malloc(10)
    assert stop - start == 10
    own.free((arena, start, stop))
    own.free((arena, start, stop))  # not even this harms it


LOGGING = """
import logging
import sys
import {package} as mp

def tell():
    logging.basicConfig(format="%(processName)s", stream=sys.stdout)
    logging.warning("")

if __name__ == "__main__":
    process = mp.get_context("spawn").Process(target=tell, name="child")
    process.start()
    process.join({patience})
"""


def test_logging_knows_the_name_of_a_process_where_the_alias_is_installed(tmp_path):
    ours = write(tmp_path / "ours.py", LOGGING.format(package="procession", patience=PATIENCE))
    unaware = write(tmp_path / "unaware.py", LOGGING.format(package="multiprocessing", patience=PATIENCE))
    assert run(ours, cwd=tmp_path).well() == "MainProcess\n"
    assert run("-m", "procession", unaware, cwd=tmp_path).well() == "child\n"
