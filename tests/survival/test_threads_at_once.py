"""Many threads use the same objects at the same moment.

On a free-threaded interpreter they really do; on any other they take turns, and what is wrong shows less often. So the
tests run on both, and longer on the former.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import sys
import sysconfig
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, until
from procession import _core, managers, process
from procession.futures import ProcessPoolExecutor
from programs import run

THREADS = 4
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
SECONDS = 1.5 if FREE else 0.3  # for how long the threads of a test go on
ROUNDS = 10 if FREE else 4  # how often new threads begin together

needs_a_lock_to_leave_off = pytest.mark.skipif(not FREE, reason="this interpreter has a lock (GIL), which stays on")


def together(*works: Callable[[], object], seconds: float = SECONDS) -> None:
    """Calls each of the functions again and again in a thread of its own, all at the same time."""
    errors: list[BaseException] = []
    stop = threading.Event()
    start = threading.Barrier(len(works))

    def go_on(work: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE)
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)
            stop.set()

    threads = [threading.Thread(target=go_on, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread still waits"
    if errors:
        raise errors[0]


def once_in_each(work: Callable[[int], object], threads: int = THREADS) -> list[Any]:
    """Calls work(0), work(1), … at the same time, each in a thread of its own. Returns what they returned."""
    values: list[Any] = [None] * threads
    errors: list[BaseException] = []
    start = threading.Barrier(threads)

    def one(number: int) -> None:
        try:
            start.wait(PATIENCE)
            values[number] = work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=one, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread still waits"
    if errors:
        raise errors[0]
    return values


@needs_a_lock_to_leave_off
def test_the_extension_leaves_the_lock_off():
    program = "import sys, procession, procession._core; print(sys._is_gil_enabled())"
    assert run("-c", program).well().strip() == "False"


# --- queues and what they carry ---------------------------------------------------------------------------------------


def test_each_item_that_threads_put_is_got_once():
    q = mp.Queue(maxsize=50)
    each = 3000 if FREE else 600

    def work(number: int) -> list[int]:
        if number % 2:
            got: list[int] = []
            while len(got) < each:
                if len(got) % 3:
                    got.append(q.get(timeout=PATIENCE))
                else:
                    got += q.get_many(min(7, each - len(got)), timeout=PATIENCE)
            return got
        mine = range(number * each, (number + 1) * each)
        for at in range(0, each, 10):
            if at % 20:
                q.put_many(mine[at : at + 10], timeout=PATIENCE)
            else:
                for item in mine[at : at + 10]:
                    q.put(item, timeout=PATIENCE)
        return []

    got = [item for items in once_in_each(work) for item in items]
    put = [range(number * each, (number + 1) * each) for number in range(0, THREADS, 2)]
    assert sorted(got) == [item for items in put for item in items]
    assert q.empty()


class Plain:
    """An instance that queues send without pickle."""


@pytest.mark.parametrize("length", [8, 400], ids=["a small list", "a long one"])
def test_a_list_is_sent_as_it_was_at_one_moment(length):
    """Its items are new at each change, so that memory which is read too late belongs to something else."""
    shared: list[int] = [0] * length
    q = mp.Queue()
    numbers = itertools.count()

    def change() -> None:
        shared[:] = [1_000_000 + next(numbers)] * (length - next(numbers) % 3)

    def send() -> None:
        q.put(shared)
        got = q.get(timeout=PATIENCE)
        assert len(set(got)) == 1 and length - 3 < len(got) <= length, got

    together(send, send, change, change)


def test_objects_that_other_threads_change_are_sent_or_refused():
    """Nested lists and dictionaries and an instance. pickle refuses what changes its size meanwhile."""
    q = mp.Queue()
    thing = Plain()
    shared: dict[str, Any] = {"list": ["a"], "dict": {"x": "x"}, "thing": thing}
    numbers = itertools.count()

    def change() -> None:
        number = next(numbers)
        text = f"text {number}"
        shared["list"] = [text, [text], (text, {text: text})]
        shared["list"][1].append(text + "!")
        shared["list"].append(text)
        shared["dict"].clear()
        shared["dict"].update({text: text, text + "!": text + "!"})
        shared[f"more {number % 5}"] = [text] * (number % 300)
        shared.pop(f"more {(number + 2) % 5}", None)
        setattr(thing, f"name{number % 3}", [text])
        thing.__dict__.pop(f"name{(number + 1) % 3}", None)

    def send() -> None:
        try:
            q.put(shared)
        except RuntimeError as error:
            assert "changed" in str(error) and "during iteration" in str(error)
            return
        got = q.get(timeout=PATIENCE)
        assert all(key == value for key, value in got["dict"].items()), got["dict"]
        assert all(type(item) in (str, list, tuple) for item in got["list"])
        assert all(type(value) is list for value in vars(got["thing"]).values())

    together(send, send, change, change)


def test_a_small_dictionary_is_encoded_whole_while_it_changes():
    shared: dict[str, str] = {}
    numbers = itertools.count()

    def change() -> None:
        text = f"key {next(numbers) % 7}"
        shared[text] = text
        shared.pop(f"key {next(numbers) % 7}", None)

    def encode() -> None:
        written = _core._encode_small(shared)
        assert written is not None
        got = _core._decode_small(written)
        assert all(key == value for key, value in got.items()), got

    together(encode, encode, change, change)


def test_threads_wait_for_a_queue_by_its_descriptor():
    from procession.connection import wait

    q = mp.Queue()

    def take() -> None:
        if wait([q], 0.01):
            with suppress(queue.Empty):
                q.get(False)

    together(take, take, lambda: q.put(1), lambda: q.qsize() < 1000 or time.sleep(0.001))
    q.close()


# --- locks and the like -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [mp.Lock, mp.RLock, mp.Semaphore])
def test_a_lock_keeps_threads_out(kind):
    lock = kind()
    inside: list[int] = []

    def work() -> None:
        with lock:
            inside.append(1)
            assert len(inside) == 1
            inside.pop()

    together(*[work] * THREADS)


def test_threads_wait_for_one_condition():
    condition = mp.Condition()
    turn = [0]

    def work(number: int) -> int:
        waits = 0
        with condition:
            for _ in range(50):
                while turn[0] % THREADS != number:
                    assert condition.wait(PATIENCE)
                    waits += 1
                turn[0] += 1
                condition.notify_all()
        return waits

    once_in_each(work)
    assert turn == [50 * THREADS]


def test_threads_meet_at_one_barrier_and_wait_for_one_event():
    barrier, event = mp.Barrier(THREADS), mp.Event()
    places: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            places.append(barrier.wait(PATIENCE))
            if number == 0:
                event.set()
            assert event.wait(PATIENCE)
            barrier.wait(PATIENCE)
            if number == 0:
                event.clear()
            barrier.wait(PATIENCE)

    once_in_each(work)
    assert sorted(places) == sorted([*range(THREADS)] * 50)


def test_objects_are_made_and_dropped_by_many_threads():
    before = _core._blocks()

    def work() -> None:
        things = [kind() for kind in (mp.Lock, mp.RLock, mp.Event, mp.Condition, mp.Queue, mp.SharedDict)]
        things.append(mp.Value("i", 1))
        del things

    together(*[work] * THREADS)
    until(lambda: _core._blocks() <= before + 8)


# --- values, arrays, dictionaries -------------------------------------------------------------------------------------


def test_a_value_counts_what_all_threads_add():
    value, array = mp.Value("q", 0), mp.Array("q", 4)
    each = 2000

    def work(number: int) -> None:
        for _ in range(each):
            with value.get_lock():
                value.value += 1
            with array:
                array[number % 4] += 1
            assert value.value > 0 and array[:][number % 4] > 0

    once_in_each(work)
    assert value.value == THREADS * each == sum(array)


def test_classes_of_wrappers_are_made_once():
    import ctypes

    for round in range(ROUNDS):
        kind = type(f"Point{round}", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int)]})
        made = once_in_each(lambda number, kind=kind: type(mp.Value(kind, 1)))
        assert len(set(made)) == 1


def test_threads_share_an_array_of_numpy():
    np = pytest.importorskip("numpy")
    array = mp.ndarray((THREADS, 1000), dtype=np.int64)

    def work(number: int) -> None:
        q = mp.Queue()
        for round in range(100):
            array[number] += 1
            q.put((number, array))
            _, same = q.get(timeout=PATIENCE)
            assert same.base is not None and same.shape == array.shape
            q.put(np.full(5000, round))
            assert q.get(timeout=PATIENCE) is not None

    once_in_each(work)
    assert (array == 100).all()


def test_threads_change_one_shared_dictionary():
    counts: Any = mp.SharedDict()

    def work(number: int) -> None:
        for round in range(200):
            counts.change("all", lambda count: count + 1, 0)
            with counts.lock("locked"):
                counts["locked"] = counts.get("locked", 0) + 1
            counts[number, round % 7] = [number, {"round": round}]
            assert counts[number, round % 7] == [number, {"round": round}]
            assert all(key in ("all", "locked") or value[0] == key[0] for key, value in counts.items())
            counts.pop((number, (round + 3) % 7), None)

    once_in_each(work)
    assert counts["all"] == counts["locked"] == THREADS * 200


# --- connections ------------------------------------------------------------------------------------------------------


def test_each_thread_has_a_pipe_and_all_have_one_with_a_lock():
    ours, theirs = mp.Pipe()
    lock = mp.Lock()

    def work(number: int) -> None:
        reader, writer = mp.Pipe(duplex=False)
        with reader, writer:
            for round in range(200):
                item = (number, round, "x" * (round * 37 % 5000))
                writer.send(item)
                assert reader.recv() == item
                with lock:
                    ours.send(item)
                    assert theirs.recv() == item

    with ours, theirs:
        once_in_each(work)


# --- pools ------------------------------------------------------------------------------------------------------------


def twice(number: int) -> int:
    return 2 * number


def test_threads_use_one_pool(start_method):
    with mp.get_context(start_method).Pool(2) as pool:

        def work(number: int) -> None:
            for round in range(15):
                assert pool.apply(twice, (round,)) == 2 * round
                assert pool.map(twice, range(30)) == [*range(0, 60, 2)]
                later = [pool.apply_async(twice, (item,)) for item in range(20)]
                assert [result.get(PATIENCE) for result in later] == [*range(0, 40, 2)]
                assert sum(pool.imap_unordered(twice, range(20), chunksize=3)) == 380
                called: list[int] = []
                pool.map_async(twice, range(9), callback=called.extend).get(PATIENCE)
                assert called == [*range(0, 18, 2)]

        once_in_each(work)


def test_threads_wait_for_one_result_in_every_way():
    with mp.Pool(2) as pool:
        for round in range(3 * ROUNDS):
            result = pool.apply_async(twice, (round,))

            async def wait(result=result) -> int:
                return await result

            def work(number: int, result=result) -> int:
                return asyncio.run(wait()) if number % 2 else result.get(PATIENCE)

            assert once_in_each(work) == [2 * round] * THREADS


def test_coroutines_of_several_loops_take_from_one_iterator():
    with mp.Pool(2) as pool:
        results = pool.imap_unordered(twice, range(200))

        async def take() -> list[int]:
            return [value async for value in results]

        taken = once_in_each(lambda number: asyncio.run(take()), 3)
    assert sorted(value for part in taken for value in part) == [*range(0, 400, 2)]


def test_threads_use_one_executor():
    with ProcessPoolExecutor(2) as executor:

        def work(number: int) -> None:
            for _ in range(10):
                futures = [executor.submit(twice, item) for item in range(20)]
                assert [future.result(PATIENCE) for future in futures] == [*range(0, 40, 2)]
                assert list(executor.map(twice, range(20), chunksize=4)) == [*range(0, 40, 2)]

        once_in_each(work)


def test_threads_use_one_pool_of_threads():
    with mp.pool.ThreadPool(THREADS) as pool:

        def work(number: int) -> None:
            for _ in range(30):
                assert pool.map(twice, range(50)) == [*range(0, 100, 2)]
                assert sum(pool.imap_unordered(twice, range(50))) == 2450
                assert pool.apply(twice, (number,)) == 2 * number

        once_in_each(work)


# --- managers ---------------------------------------------------------------------------------------------------------


def test_threads_use_the_objects_of_one_manager():
    with mp.Manager() as manager:
        kept = manager.list(), manager.dict(), manager.Lock(), manager.Value("i", 0)
        numbers, names, lock, value = kept
        before = manager._number_of_objects()

        def work(number: int) -> None:
            for round in range(40):
                numbers.append((number, round))
                names[f"{number}.{round}"] = number
                with lock:
                    value.set(value.get() + 1)
                own = manager.list([number])
                own.append(round)
                assert own[:] == [number, round]
                assert len(names) > 0 and dict(names.items())

        once_in_each(work)
        assert value.get() == THREADS * 40 == len(numbers) == len(names)
        until(lambda: manager._number_of_objects() == before)


def test_threads_that_meet_a_server_at_once_know_it_as_one():
    """Two would both count the references of this process, and drop the last one too early."""
    with mp.Manager() as manager:
        token = manager.list()._token
        from procession._manager import client

        for _ in range(ROUNDS):
            client._remotes.clear()
            found = once_in_each(lambda number: client.remote_of(token, "pickle", manager._authkey, None))
            assert len({id(one) for one in found}) == 1


# --- processes --------------------------------------------------------------------------------------------------------


def test_threads_start_and_join_children(start_method):
    context = mp.get_context(start_method)

    def work(number: int) -> list[int | None]:
        codes = []
        for round in range(6 if start_method != "spawn" else 3):
            child = context.Process(target=sys.exit, args=(number * 10 + round,))
            child.start()
            assert all(other.pid for other in mp.active_children())
            child.join(PATIENCE)
            codes.append(child.exitcode)
            child.close()
        return codes

    codes = once_in_each(work)
    assert [code // 10 for part in codes for code in part] == [n for n, part in enumerate(codes) for _ in part]
    assert not process._children


def test_threads_look_for_children_that_come_and_go():
    """What they see is a list of that moment: nobody iterates over what others change."""

    class Ended:
        def poll(self) -> None:
            return None

    children = [mp.Process(name=str(number)) for number in range(50)]
    for child in children:
        child._popen = Ended()

    def come_and_go() -> None:
        for child in children:
            process._children.add(child)
        for child in children:
            process._children.discard(child)

    try:
        together(come_and_go, mp.active_children, mp.active_children, process._cleanup)
    finally:
        process._children.difference_update(children)


def check_environment(fixed: str) -> None:
    assert os.environ["PROCESSION_TEST_FIXED"] == fixed
    assert all(value.startswith("v") for name, value in os.environ.items() if name.startswith("PROCESSION_TEST_MANY"))


@pytest.mark.start_methods("spawn")
def test_children_start_while_threads_change_the_environment(context, monkeypatch):
    fixed = "v" * 100
    monkeypatch.setenv("PROCESSION_TEST_FIXED", fixed)
    numbers = itertools.count()
    names = [f"PROCESSION_TEST_MANY_{number}" for number in range(300)]

    def change() -> None:
        for _ in range(50):
            number = next(numbers) % len(names)
            os.environ[names[number]] = "v" * (number * 7 % 200 + 1)
            with suppress(KeyError):  # os.environ itself: another thread has removed it
                del os.environ[names[(number * 31 + 7) % len(names)]]

    def start() -> None:
        child = context.Process(target=check_environment, args=(fixed,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0

    try:
        together(start, start, change, change, seconds=2 * SECONDS)
    finally:
        for name in set(names) & set(os.environ):
            del os.environ[name]


def test_a_fork_beside_threads_at_work_leaves_the_child_usable():
    """What other threads had begun stays begun in the child: nothing that it needs is locked."""
    program = textwrap.dedent(
        """
        import os, sys, threading
        import procession as mp

        def work(begun):
            q, lock = mp.Queue(), mp.Lock()
            while True:
                with lock:
                    q.put([1, {"a": "b"}, bytes(5000)])
                    q.get()
                mp.Event(), mp.SharedDict()
                begun.set()

        def child(q):
            lock = mp.Lock()
            with lock:
                q.put([os.getpid(), {"in": "the child"}, mp.Event()])
            with mp.Pool(1) as pool:
                assert pool.map(abs, [-1, 2]) == [1, 2]

        if __name__ == "__main__":
            mp.set_start_method("fork")
            for _ in range(4):
                begun = threading.Event()
                threading.Thread(target=work, args=(begun,), daemon=True).start()
                begun.wait()  # a fork in the midst of an import leaves the module locked, which is Python's own affair
            q = mp.Queue()
            for _ in range(12):
                process = mp.Process(target=child, args=(q,))
                process.start()
                assert q.get(timeout=PATIENCE)[0] == process.pid
                process.join(PATIENCE)
                assert process.exitcode == 0, process.exitcode
            print("done")
            sys.stdout.flush()
            os._exit(0)
        """
    )
    outcome = run("-W", "ignore", "-c", program)
    assert (outcome.code, outcome.out.strip()) == (0, "done"), outcome


def test_a_class_of_proxies_is_made_once():
    for round in range(ROUNDS):
        made = once_in_each(lambda number, round=round: managers.MakeProxyType(f"Proxy{round}", ("get",)))
        assert len(set(made)) == 1
