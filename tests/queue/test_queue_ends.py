"""Queues that are shut down, joined, bounded in bytes, watched by a descriptor, or awaited."""

from __future__ import annotations

import asyncio
import os
import queue
import selectors
import signal
import threading
import time
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, ended, open_descriptors, running, until
from procession.queues import ShutDown
from programs import run, write
from waiting import ctrl_c_at_rest, in_thread


def get_and_tell(q, log):
    log.put("ready")
    try:
        log.put(q.get())
    except Exception as error:
        log.put(type(error).__name__)


def put_and_tell(q, log):
    log.put("ready")
    try:
        log.put(q.put("one too many"))
    except Exception as error:
        log.put(type(error).__name__)


def work(tasks, finished):
    while (task := tasks.get()) is not None:
        finished.put(task)
        tasks.task_done()
    tasks.task_done()


def take_one_and_die(tasks):
    tasks.get()
    os.kill(os.getpid(), signal.SIGKILL)


def put_when_told(q, event):
    event.wait()
    q.put("told")


# --- shutdown ---------------------------------------------------------------------------------------------------------


def test_shut_down_means_what_it_means_for_threads_queues(context):
    q = context.Queue()
    q.put("left")
    assert q.is_shutdown is False
    q.shutdown()
    assert q.is_shutdown is True
    with pytest.raises(ShutDown):
        q.put("late")
    with pytest.raises(ShutDown):
        q.put_many(["late"])
    assert q.get() == "left"
    for get in (q.get, q.get_nowait, lambda: q.get(timeout=PATIENCE), lambda: q.get_many(3)):
        with pytest.raises(ShutDown):
            get()
    q.shutdown()
    assert (q.qsize(), q.empty()) == (0, True)
    if hasattr(queue, "ShutDown"):
        assert ShutDown is queue.ShutDown


def test_an_immediate_shutdown_throws_away_what_is_there():
    q = mp.Queue()
    q.put_many([b"x" * 100_000, {"lock": mp.Lock()}, 3])
    q.shutdown(immediate=True)
    assert q.empty()
    with pytest.raises(ShutDown):
        q.get()


def test_shutting_down_wakes_those_who_wait_in_other_processes(context):
    q, full, log = context.Queue(), context.Queue(1), context.Queue()
    full.put("full")
    with running(context, (get_and_tell, q, log), (put_and_tell, full, log)) as processes:
        assert [log.get(timeout=PATIENCE) for _ in processes] == ["ready", "ready"]
        for process in processes:
            asleep(process.pid)
        q.shutdown()
        full.shutdown()
        assert [log.get(timeout=PATIENCE) for _ in processes] == ["ShutDown", "ShutDown"]
        assert ended(*processes) == [0, 0]
    assert full.get() == "full"


# --- join -------------------------------------------------------------------------------------------------------------


def test_join_returns_when_every_item_was_reported_done(context):
    tasks, finished = context.JoinableQueue(), context.Queue()
    with running(context, (work, tasks, finished), (work, tasks, finished)) as processes:
        tasks.put_many(range(50))
        tasks.join()
        assert sorted(finished.get(timeout=PATIENCE) for _ in range(50)) == list(range(50))
        assert finished.empty()
        tasks.put_many([None, None])
        tasks.join()
        assert ended(*processes) == [0, 0]


def test_one_task_done_too_many_is_an_error(context):
    tasks = context.JoinableQueue()
    with pytest.raises(ValueError, match="too many times"):
        tasks.task_done()
    tasks.put(1)
    tasks.task_done()
    with pytest.raises(ValueError, match="too many times"):
        tasks.task_done()
    tasks.join()


def test_an_item_whose_taker_was_killed_stays_unfinished(context):
    tasks = context.JoinableQueue()
    tasks.put("task")
    with running(context, (take_one_and_die, tasks)) as [process]:
        assert ended(process) == [-signal.SIGKILL]
    with in_thread(tasks.join):
        assert tasks._unfinished() == 1
        tasks.task_done()
    tasks.join()


def test_ctrl_c_interrupts_join():
    tasks = mp.JoinableQueue()
    tasks.put(1)
    with pytest.raises(KeyboardInterrupt), ctrl_c_at_rest():
        tasks.join()
    tasks.task_done()
    tasks.join()


def test_what_an_immediate_shutdown_throws_away_counts_as_done():
    tasks = mp.JoinableQueue()
    tasks.put_many("abc")
    tasks.get()
    tasks.shutdown(immediate=True)
    assert tasks._unfinished() == 1
    tasks.task_done()
    tasks.join()


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_maxbytes_bounds_what_lies_in_the_queue(context):
    q, log = context.Queue(maxbytes=100_000), context.Queue()
    assert (q.maxsize, q.maxbytes) == (0, 100_000)
    q.put(bytes(60_000))
    with pytest.raises(queue.Full):
        q.put(bytes(60_000), False)
    q.put(bytes(30_000), False)
    assert not q.full()
    q.put(bytes(9_990), False)  # before there is a child, which would be content with the room
    with running(context, (put_and_tell, q, log)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        asleep(process.pid)
        assert log.empty()
        assert q.get() == bytes(60_000)
        assert log.get(timeout=PATIENCE) is None
        assert ended(process) == [0]


def test_an_item_that_is_bigger_than_the_bound_has_the_queue_to_itself():
    q = mp.Queue(maxbytes=1000)
    q.put(bytes(50_000), False)
    with pytest.raises(queue.Full):
        q.put(1, False)
    assert len(q.get()) == 50_000
    q.put(1, False)


# --- a descriptor -----------------------------------------------------------------------------------------------------


def readable(*things: Any, timeout: float = 0) -> list[Any]:
    with selectors.DefaultSelector() as selector:
        for thing in things:
            selector.register(thing, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(timeout)]


def test_the_descriptor_is_readable_while_there_are_items(context):
    q = context.Queue()
    assert readable(q) == []
    q.put(1)
    q.put(2)
    assert readable(q) == [q]
    assert len(readable(q._reader)) == 1
    q.get()
    assert readable(q) == [q]
    q.get()
    assert readable(q) == []


def test_the_descriptor_tells_of_an_item_that_another_process_puts(context):
    q, event = context.Queue(), context.Event()
    with running(context, (put_when_told, q, event)) as [process]:
        assert readable(q) == []
        event.set()
        assert readable(q, timeout=PATIENCE) == [q]
        assert q.get(False) == "told"
        assert ended(process) == [0]
        until(lambda: falls_silent(q))  # the end of a process may make it readable once more


def falls_silent(q):
    if readable(q) == []:
        return True
    with pytest.raises(queue.Empty):
        q.get(False)
    return False


def test_the_descriptor_falls_silent_when_another_took_the_item_and_get_was_tried():
    q = mp.Queue()
    q.fileno()
    q.put(1)
    twin = mp.get_context("fork").Process(target=q.get)
    twin.start()
    assert ended(twin) == [0]
    with pytest.raises(queue.Empty):
        q.get(False)
    assert readable(q) == []


def test_a_forked_child_has_a_descriptor_of_its_own():
    q, log = mp.Queue(), mp.Queue()
    q.fileno()

    def watch() -> None:
        log.put("ready")
        log.put(len(readable(q, timeout=PATIENCE)))
        log.put(q.get(False))

    with running(mp.get_context("fork"), (watch,)) as [process]:
        assert log.get(timeout=PATIENCE) == "ready"
        q.put("for the child")
        assert log.get(timeout=PATIENCE) == 1
        assert log.get(timeout=PATIENCE) == "for the child"
        assert ended(process) == [0]
    q.put("for the parent")
    assert readable(q, timeout=PATIENCE) == [q]


def test_descriptors_go_with_their_queues():
    mp.Queue().put(1)
    before = open_descriptors()
    for _ in range(50):
        q = mp.Queue()
        q.fileno()
        q.close()
        mp.Queue().fileno()
    del q
    assert open_descriptors() == before


def test_the_ends_that_old_programs_look_for_work(context):
    q = context.SimpleQueue()
    q._writer.send({"a": 1})
    assert q._reader.poll()
    assert q._poll()
    assert q._reader.recv() == {"a": 1}
    assert not q._reader.poll(0.01)
    import pickle

    q._writer.send_bytes(pickle.dumps([1, 2]))
    assert pickle.loads(q._reader.recv_bytes()) == [1, 2]
    assert (q._reader.readable, q._reader.writable, q._writer.writable) == (True, False, True)
    assert q._reader.fileno() == q.fileno()
    q._writer.close()  # as the workers of a pool do with the end that they do not need
    assert (q._writer.closed, q._reader.closed) == (True, False)
    q.put(3)
    assert q._reader.recv() == 3
    q._reader.close()
    assert q._reader.closed
    with pytest.raises(OSError, match="closed"):
        q.get()


# --- asyncio ----------------------------------------------------------------------------------------------------------


def test_an_event_loop_waits_for_an_item_while_it_goes_on(context):
    q, event = context.Queue(), context.Event()

    async def main() -> Any:
        threads = threading.active_count()
        waiting = asyncio.ensure_future(q.get_async())
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        assert threading.active_count() == threads
        event.set()
        return await asyncio.wait_for(waiting, PATIENCE)

    with running(context, (put_when_told, q, event)) as [process]:
        assert asyncio.run(main()) == "told"
        assert ended(process) == [0]


def test_an_event_loop_waits_for_room():
    q = mp.Queue(1)

    async def main() -> None:
        await q.put_async("first")
        waiting = asyncio.ensure_future(q.put_async("second"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert await q.get_async() == "first"
        await asyncio.wait_for(waiting, PATIENCE)
        assert await q.get_async() == "second"
        with pytest.raises(queue.Empty):
            await q.get_async(0.01)
        await q.put_async("third")
        with pytest.raises(queue.Full):
            await q.put_async("fourth", 0.01)

    asyncio.run(main())


def test_cancelling_takes_nothing_and_shutting_down_tells_the_loop():
    q = mp.Queue()

    async def main() -> None:
        waiting = asyncio.ensure_future(q.get_async())
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        q.put("still there")
        assert await q.get_async() == "still there"
        waiting = asyncio.ensure_future(q.get_async())
        await asyncio.sleep(0.02)
        q.shutdown()
        with pytest.raises(ShutDown):
            await asyncio.wait_for(waiting, PATIENCE)

    asyncio.run(main())


def test_none_is_an_item_like_any_other():
    q = mp.Queue()
    q.put(None)
    began = time.monotonic()
    assert asyncio.run(q.get_async()) is None
    assert time.monotonic() - began < 5


# --- no memory --------------------------------------------------------------------------------------------------------

FULL_MEMORY = """
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))  # family memory may take all of this

    import procession as mp


    def answer(there, back):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)  # room for what is taken out
        while (item := there.get()) is not None:
            back.put((item[0], len(item)))


    if __name__ == "__main__":
        there, back = mp.Queue(), mp.Queue()
        process = mp.get_context("fork").Process(target=answer, args=(there, back))
        numbers = [bytes([n]) for n in range(200)]
        block = bytearray(32 << 20)
        put = 0
        try:
            for number in numbers:
                block[:1] = number
                there.put(block)
                put += 1
        except MemoryError as error:
            print(error)
        assert 10 < put < 200, put
        assert len(bytearray(10 << 20)) == 10 << 20  # the program has room to go on
        there.put(b"a small one has room")
        process.start()
        for number in range(put):
            assert back.get(timeout=PATIENCE) == (number, len(block)), number
        assert back.get(timeout=PATIENCE) == (ord("a"), 20)
        there.put(block)
        assert back.get(timeout=PATIENCE)[1] == len(block)
        there.put(None)
        process.join(PATIENCE)
        assert process.exitcode == 0
"""


def test_full_memory_is_an_error_in_put_and_the_queue_goes_on(tmp_path):
    told = run(write(tmp_path / "full.py", FULL_MEMORY)).well()
    assert "no memory" in told
