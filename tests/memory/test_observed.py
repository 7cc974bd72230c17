"""What family memory says of a running program, as an observer reads it from outside."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from observed import OFFSET, Memory
from procession import sharedctypes
from procession.futures import ProcessPoolExecutor

HERE = os.path.basename(__file__)


@pytest.fixture
def memory() -> Iterator[Memory]:
    mp.Lock()  # so that there is a family
    found = Memory()
    yield found
    found.close()


MAKERS = {
    "Lock": lambda: mp.Lock(name="it"),
    "RLock": lambda: mp.RLock(name="it"),
    "Semaphore": lambda: mp.Semaphore(name="it"),
    "BoundedSemaphore": lambda: mp.BoundedSemaphore(name="it"),
    "Event": lambda: mp.Event(name="it"),
    "Barrier": lambda: mp.Barrier(2, name="it"),
    "Condition": lambda: mp.Condition(name="it"),
    "Queue": lambda: mp.Queue(name="it"),
    "JoinableQueue": lambda: mp.JoinableQueue(name="it"),
    "SimpleQueue": lambda: mp.SimpleQueue(name="it"),
    "SharedDict": lambda: mp.SharedDict.named("it"),
    "RawValue": lambda: mp.RawValue("i", 5, name="it")._wrapper,
    "RawArray": lambda: mp.RawArray("d", 5, name="it")._wrapper,
    "copy": lambda: sharedctypes.copy(mp.RawValue("i", 5), name="it")._wrapper,
    "Value": lambda: mp.Value("i", 5, name="it").get_obj()._wrapper,
    "Array": lambda: mp.Array("d", 5, name="it").get_obj()._wrapper,
    "ndarray": lambda: mp.ndarray(5, name="it")._block,
    "a sparse ndarray": lambda: mp.ndarray(1 << 20, name="it")._block,
    "asarray": lambda: mp.asarray([1, 2], name="it")._block,
}
WITHOUT_NAMES = {
    "Lock": mp.Lock,
    "RLock": mp.RLock,
    "Semaphore": mp.Semaphore,
    "BoundedSemaphore": mp.BoundedSemaphore,
    "Event": mp.Event,
    "Barrier": lambda: mp.Barrier(2),
    "Condition": mp.Condition,
    "Queue": mp.Queue,
    "JoinableQueue": mp.JoinableQueue,
    "SimpleQueue": mp.SimpleQueue,
    "SharedDict": mp.SharedDict,
    "RawValue": lambda: mp.RawValue("i")._wrapper,
    "RawArray": lambda: mp.RawArray("d", 5)._wrapper,
    "Value": lambda: mp.Value("i").get_obj()._wrapper,
    "a big array": lambda: mp.RawArray("b", 100_000)._wrapper,
    "a sparse ndarray": lambda: mp.ndarray(1 << 20)._block,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_an_object_says_its_name_and_where_it_was_made(memory: Memory, kind: str) -> None:
    made: Any = MAKERS[kind]()
    label = memory.label(made._key[0])
    assert label is not None
    name, place = label
    assert name == "it"
    assert HERE in place and place.endswith("<lambda>")


@pytest.mark.parametrize("kind", WITHOUT_NAMES)
def test_each_object_says_where_it_was_made(memory: Memory, kind: str) -> None:
    # thousands, so that there is no limit on their number, and twice in the same place
    for _ in range(2):
        make: Any = WITHOUT_NAMES[kind]
        made: list[Any] = [make() for _ in range(1500 if kind == "Lock" else 20)]
        for one in made:
            label = memory.label(one._key[0])
            assert label is not None and label[0] == ""
            assert HERE in label[1]
    assert line_of(memory, mp.Lock()) == line_of(memory, mp.Lock())
    here = line_of(memory, mp.Lock())
    assert line_of(memory, mp.Lock()) == here + 1


def line_of(memory: Memory, made: Any) -> int:
    label = memory.label(made._key[0])
    assert label is not None
    return int(re.search(r":(\d+) ", label[1])[1])  # type: ignore[index]


def test_a_function_that_is_replaced_does_not_lend_its_line_to_the_next(memory: Memory) -> None:
    # code objects come and go, and another one may get the address of a dead one
    for number in range(3000):
        names: dict[str, Any] = {"mp": mp}
        exec(compile("\n" * number + "lock = mp.Lock()", "made.py", "exec"), names)
        assert line_of(memory, names["lock"]) == number + 1


def test_objects_of_one_line_share_its_label_and_free_it(memory: Memory) -> None:
    def refs(made: Any) -> int:
        return memory.field(memory.field(made._key[0], "Header.resident") & OFFSET, "Header.refs")

    def make() -> Any:
        return mp.Lock()

    first = make()
    before = refs(first)
    more = [make() for _ in range(10)]
    assert refs(first) == before + 10
    del more
    assert refs(first) == before


def make_there(queue: Any) -> None:
    queue.put((mp.SharedDict.named("theirs"), mp.Event()))


def test_the_place_and_the_name_travel_with_the_object(memory: Memory, context: Any) -> None:
    queue = context.SimpleQueue()
    child = context.Process(target=make_there, args=(queue,))
    child.start()
    shared, event = queue.get()
    child.join()
    assert shared.name == "theirs"
    assert mp.SharedDict().name is None
    for made in (shared, event):
        label = memory.label(made._key[0])
        assert label is not None and HERE in label[1] and label[1].endswith("make_there")


def test_a_name_is_no_item_of_a_dictionary() -> None:
    shared = mp.SharedDict.named("accounts", {"a": 1}, name="b")
    assert shared.name == "accounts"
    assert shared.copy() == {"a": 1, "name": "b"}
    assert mp.SharedDict(name="b").name is None


def test_an_executor_says_where_it_was_made(memory: Memory) -> None:
    executor = ProcessPoolExecutor(1, mp_context=mp.get_context("fork"), name="loader")
    line = sys._getframe().f_lineno - 1
    with executor:
        assert executor.submit(pow, 2, 3).result() == 8
        labels = [memory.label(at) for at, name in pools(memory) if name == "loader"]
        assert labels and all(label is not None and f"{HERE}:{line} " in label[1] for label in labels)


def test_values_and_arrays_have_names(memory: Memory) -> None:
    for made in (mp.Value("i", name="total"), mp.Array("d", 5, name="total"), mp.Array("b", 1 << 20, name="total")):
        label = memory.label(made.get_obj()._wrapper._key[0])
        assert label is not None and label[0] == "total"
        lock = memory.label(made.get_lock()._key[0])
        assert lock is not None and lock[0] == "total"


def test_a_lock_made_in_great_numbers_works_without_a_place() -> None:
    locks = [mp.Lock() for _ in range(3000)]
    assert all(lock.acquire(False) for lock in locks)


def hold_up(lock: Any, event: Any) -> None:
    event.set()
    with lock:
        pass


def test_a_waiting_process_says_for_what_and_since_when(memory: Memory, context: Any, start_method: str) -> None:
    lock, started = context.Lock(), context.Event()
    with lock:
        child = context.Process(target=hold_up, args=(lock, started))
        child.start()
        assert started.wait(PATIENCE)
        before = time.monotonic_ns()
        pid = child.pid
        assert pid is not None
        assert until(lambda: memory.waits(pid))
        (wait,) = memory.waits(pid)
        assert wait["what"] == memory.number("What.Acquire")
        assert wait["object"] & OFFSET == lock._key[0]
        assert wait["thread"] == pid
        assert abs(wait["since"] - before) < PATIENCE * 1e9
        assert wait["deadline"] == 2**64 - 1
        assert wait["seen"] == 1
        how = memory.field(memory.seats()[pid], "Slot.how")
        starts = {"fork": "Start.Fork", "spawn": "Start.Spawn", "forkserver": "Start.ForkServer"}
        assert how >> 32 & 0xFF == memory.number(starts[start_method])
        assert how >> 40 & 0xFF == memory.number("Role.Program")
        # The wait of the main thread returns for signals every few seconds, and still began at the same time.
        assert until(lambda: time.monotonic_ns() - wait["since"] > 1e9)
        assert memory.waits(pid)[0]["since"] == wait["since"]
    child.join()


def test_a_process_that_joins_a_child_says_which(memory: Memory) -> None:
    context = mp.get_context("fork")
    lock = context.Lock()
    with lock:
        child = context.Process(target=hold_up, args=(lock, context.Event()))
        child.start()
        joiner = threading.Thread(target=child.join)
        joiner.start()
        joins = memory.number("What.Join")
        found = (joins, child.pid)
        assert until(lambda: found in [(wait["what"], wait["detail"]) for wait in memory.waits(os.getpid())])
    joiner.join()


def test_a_reader_of_a_pipe_says_from_which_descriptor(memory: Memory) -> None:
    reader, writer = mp.Pipe(duplex=False)
    thread = threading.Thread(target=reader.recv)
    thread.start()
    receives = memory.number("What.Receive")
    found = (receives, reader.fileno())
    assert until(lambda: found in [(wait["what"], wait["detail"]) for wait in memory.waits(os.getpid())])
    writer.send(None)
    thread.join()


def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_pool_says_what_its_workers_do_and_have_done(memory: Memory) -> None:
    with mp.get_context("fork").Pool(2, name="loader") as pool:
        pool.map(pause, [0.0] * 20, chunksize=1)
        result = pool.map_async(pause, [0.0, 9.0], chunksize=1)
        engine: Any = pool._engine
        at = next(at for at, name in pools(memory) if name == "loader")
        assert engine.handle  # the pool is the one that was found
        slots = [at + memory.number("PoolObject") + n * memory.number("WorkerSlot") for n in range(2)]

        def busy() -> list[int]:
            return [slot for slot in slots if memory.field(slot, "WorkerSlot.task")]

        assert until(lambda: len(busy()) == 1)
        (slot,) = busy()
        definition = memory.field(slot, "WorkerSlot.definition") & OFFSET
        size = memory.number("Header")
        name = memory.text(memory.word(definition + size + memory.place("DefinitionHead.label")))
        assert name == (f"{__name__}.pause", "")
        seats = memory.seats()
        worker = memory.field(slot, "WorkerSlot.seat") - 1 & 0xFFFFFFFF
        seat = memory.number("at.registry") + worker * memory.number("Slot")
        assert seat in seats.values()
        assert memory.field(seat, "Slot.how") >> 40 & 0xFF == memory.number("Role.Worker")
        histories = [memory.field(slot, "WorkerSlot.history") for slot in slots]
        # a worker may hand over a result before it writes that down
        until(lambda: sum(memory.field(history, "HistoryObject.written") for history in histories) == 21)
        totals = at + memory.place("PoolObject.totals")
        assert memory.field(totals, "Totals.submitted") == 22
        assert memory.field(totals, "Totals.returned") in (20, 21)
        del result


def pools(memory: Memory) -> Iterator[tuple[int, str]]:
    """The pools that this process refers to, with their names."""
    chunk = memory.field(memory.seats()[os.getpid()], "Slot.held")
    while chunk:
        for at in range(chunk + memory.place("Chunk.entries"), chunk + memory.number("Chunk"), 8):
            held = memory.word(at)
            if held and memory.field(held, "Header.tag") >> 16 & 0xFFFF == memory.number("Kind.Pool"):
                label = memory.label(held)
                if label is not None:
                    yield held, label[0]
        chunk = memory.field(chunk, "Chunk.next")


def test_the_server_of_a_manager_says_that_it_is_one(memory: Memory) -> None:
    with mp.get_context("fork").Manager() as manager:
        server: Any = manager._process
        how = memory.field(memory.seats()[server.pid], "Slot.how")
        assert how >> 40 & 0xFF == memory.number("Role.Manager")
