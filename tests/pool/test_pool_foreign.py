"""Pools of subclasses that override what multiprocessing's pool calls: queues, workers, processes, `apply_async`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any, ClassVar

import pytest

import procession as mp
import procession.context
from deadlines import PATIENCE, asleep, until
from procession import futures
from procession.pool import Pool, ThreadPool


def square(x):
    return x * x


def fail(x):
    raise ValueError(f"no root for {x}")


def die(how):
    os.kill(os.getpid(), how)


def name_of_process(_=None):
    return mp.current_process().name


def rest(seconds):
    time.sleep(seconds)


class PipeQueue:
    """As libraries make them: a pipe and two locks."""

    def __init__(self, context: Any) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._rlock, self._wlock = context.Lock(), context.Lock()
        self.seen: list[Any] = []

    def __getstate__(self) -> Any:
        procession.context.assert_spawning(self)
        return self._reader, self._writer, self._rlock, self._wlock

    def __setstate__(self, state: Any) -> None:
        self._reader, self._writer, self._rlock, self._wlock = state
        self.seen = []

    def get(self):
        with self._rlock:
            return self._reader.recv()

    def put(self, item):
        self.seen.append(item)
        with self._wlock:
            self._writer.send(item)

    def empty(self):
        return not self._reader.poll()


class PipePool(Pool):
    """A pool on queues of its own."""

    def _setup_queues(self):
        self._inqueue, self._outqueue = PipeQueue(self._ctx), PipeQueue(self._ctx)
        self._quick_put, self._quick_get = self._inqueue.put, self._outqueue._reader.recv


def obedient(inqueue, outqueue, folder):
    """A worker of somebody's own, that tells when it ends."""
    while (task := inqueue.get()) is not None:
        job, index, function, args, keywords = task
        outqueue.put((job, index, (True, function(*args, **keywords))))
    with open(os.path.join(folder, str(os.getpid())), "w"):
        pass


class OwnWorkers(Pool):
    """A pool whose workers run `obedient`."""

    folder = ""

    def _repopulate_pool(self):
        for _ in range(self._processes - len(self._pool)):
            process = self._ctx.Process(target=obedient, args=(self._inqueue, self._outqueue, type(self).folder))
            process.daemon = True
            process.start()
            self._pool.append(process)


class OwnNames(Pool):
    """A pool whose processes have names of their own."""

    @staticmethod
    def Process(ctx, *args, **kwds):
        process = ctx.Process(*args, **kwds)
        process.name = f"mine-{process.name}"
        return process


# --- queues of a subclass ---------------------------------------------------------------------------------------------


def test_a_pool_that_makes_its_queues_has_all_of_its_tasks_go_through_them(context):
    with PipePool(2, context=context) as pool:
        assert pool.map(square, range(50), 7) == pool.map(square, range(50)) == [x * x for x in range(50)]
        assert pool.apply(pow, (2, 5)) == 32
        assert pool.apply(int, ("11",), {"base": 3}) == 4
        assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert list(pool.imap(square, range(20), 3)) == [x * x for x in range(20)]
        assert sorted(pool.imap_unordered(square, range(20))) == sorted(x * x for x in range(20))
        got: list[Any] = []
        assert pool.apply_async(square, (4,), callback=got.append).get(PATIENCE) == 16 and got == [16]
        tasks = [task for task in pool._inqueue.seen if task is not None]
        assert len(tasks) > 30 and all(len(task) == 5 for task in tasks)
        assert ThreadPoolNames <= set(dir(pool))
        assert pool._task_handler.is_alive() and pool._result_handler.is_alive() and pool._worker_handler.is_alive()
        with pytest.raises(ValueError, match="no time limits"):
            pool.apply_async(square, (1,), timeout=1).get(PATIENCE)


ThreadPoolNames = {"_inqueue", "_outqueue", "_quick_put", "_quick_get", "_taskqueue", "_cache"}


def test_what_a_task_raises_or_cannot_return_is_an_error_of_that_task(context):
    with PipePool(1, context=context) as pool:
        with pytest.raises(ValueError, match="no root for 3") as caught:
            pool.map(fail, [3])
        assert "fail" in str(caught.value.__cause__)  # the traceback there
        assert caught.value.__notes__ == ["raised by the call for item 0: 3"]
        with pytest.raises(mp.pool.MaybeEncodingError):
            pool.apply(threading.Lock)
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pool.apply(square, (threading.Lock(),))
        assert pool.apply(square, (3,)) == 9


def test_what_was_submitted_is_done_before_a_closed_pool_ends(context):
    pool = PipePool(2, context=context)
    results = [pool.apply_async(square, (x,)) for x in range(30)]
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == [x * x for x in range(30)]
    assert not any(process.is_alive() for process in pool._pool)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))


def test_a_pool_on_queues_that_is_terminated_tells_who_waits(context):
    pool = PipePool(1, context=context)
    busy = pool.apply_async(rest, (60,))
    # more than a pipe takes: the thread that puts tasks waits for room
    waiting = pool.map_async(len, ["x" * 50_000] * 20, 1)
    until(lambda: pool._inqueue.seen)
    began = time.monotonic()
    pool.terminate()
    pool.join()
    assert time.monotonic() - began < PATIENCE / 2
    for result in (busy, waiting):
        with pytest.raises(mp.PoolBrokenError):
            result.get(PATIENCE)


def test_idle_workers_of_a_pool_on_queues_end_by_themselves(tmp_path):
    OwnWorkers.folder = str(tmp_path)
    with OwnWorkers(3, context=mp.get_context("fork")) as pool:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
        workers = {str(process.pid) for process in pool._pool}
    assert set(os.listdir(tmp_path)) == workers


def test_a_worker_on_queues_that_dies_is_replaced_and_its_task_fails(context):
    with PipePool(2, context=context) as pool:
        others = [pool.apply_async(square, (x,)) for x in range(5)]
        with pytest.raises(mp.WorkerDiedError) as caught:
            pool.apply_async(die, (signal.SIGKILL,)).get(PATIENCE)
        assert caught.value.exitcode == -signal.SIGKILL
        assert [result.get(PATIENCE) for result in others] == [x * x for x in range(5)]
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]


@pytest.mark.parametrize("code", [0, 3])
def test_a_task_on_queues_that_ends_its_worker_fails(code):
    with PipePool(1, context=mp.get_context("fork")) as pool:
        with pytest.raises(mp.WorkerDiedError, match=f"exit code {code}") as caught:
            pool.apply_async(sys.exit, (code,)).get(PATIENCE)
        assert caught.value.exitcode == code
        assert pool.apply_async(square, (3,)).get(PATIENCE) == 9


def test_tasks_that_kill_their_workers_fail_one_by_one_in_a_closed_pool_too():
    pool = PipePool(2, context=mp.get_context("fork"))
    results = [pool.apply_async(die, (signal.SIGKILL,)) for _ in range(4)]
    results.append(pool.apply_async(square, (3,)))
    pool.close()
    pool.join()
    for result in results[:-1]:
        with pytest.raises(mp.WorkerDiedError):
            result.get(0)
    assert results[-1].get(0) == 9


def test_a_worker_that_dies_with_the_lock_of_its_queue_does_not_stop_the_others():
    with PipePool(2, context=mp.get_context("fork")) as pool:
        assert pool.map(square, range(4), 1) == [0, 1, 4, 9]
        killed = list(pool._pool)
        for process in killed:  # both are idle: one waits in the pipe and has the lock, one for the lock
            asleep(process.pid)
            os.kill(process.pid, signal.SIGKILL)
        # one that is not quite dead yet may take a task along
        until(lambda: len(pool._pool) == 2 and not any(process in pool._pool for process in killed))
        assert pool.map_async(square, range(10), 1).get(PATIENCE) == [x * x for x in range(10)]


def test_workers_on_queues_retire_and_are_initialized(context):
    with PipePool(1, os.putenv, ("GREETING", "hello"), 2, context) as pool:
        first = pool._pool[0].pid
        assert [pool.apply(square, (x,)) for x in range(6)] == [x * x for x in range(6)]
        until(lambda: pool._pool and pool._pool[0].pid != first)


def test_an_initializer_that_always_fails_breaks_a_pool_on_queues():
    with PipePool(1, fail, (3,), context=mp.get_context("fork")) as pool, pytest.raises(mp.PoolBrokenError):
        pool.apply_async(square, (3,)).get(PATIENCE)


def test_limits_that_need_the_engine_are_refused_when_such_a_pool_is_made():
    for option in ({"timeout": 1}, {"retries": 1}, {"worker_memory_limit": 1 << 30}, {"inner_threads": 1}):
        with pytest.raises(ValueError, match="with its own queues"):
            PipePool(1, context=mp.get_context("fork"), **option)  # type: ignore[arg-type]


def test_a_thread_pool_may_have_queues_of_its_own():
    class Bounded(ThreadPool):
        def _setup_queues(self):
            import queue

            self._inqueue, self._outqueue = queue.Queue(2), queue.Queue()
            self._quick_put, self._quick_get = self._inqueue.put, self._outqueue.get

    with Bounded(2) as pool:
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        assert pool._inqueue.maxsize == 2


# --- workers of a subclass --------------------------------------------------------------------------------------------


def test_workers_that_a_subclass_starts_are_used_and_told_to_end(context, tmp_path):
    OwnWorkers.folder = str(tmp_path)
    pool = OwnWorkers(2, context=context)
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
    pool.close()
    pool.join()
    assert len(os.listdir(tmp_path)) == 2


def test_a_function_in_the_place_of_pool_worker_is_what_workers_run(monkeypatch):
    seen = []

    def observed(inqueue, outqueue, *args):
        mp.current_process().name = "observed"
        seen.append(1)
        return original(inqueue, outqueue, *args)

    original = procession.pool.worker
    monkeypatch.setattr(procession.pool, "worker", observed)
    with mp.get_context("fork").Pool(1) as pool:
        assert pool.map(name_of_process, [0]) == ["observed"]


def test_processes_of_a_subclass_are_used_and_so_are_their_replacements(context):
    with OwnNames(1, context=context) as pool:
        assert pool.apply(name_of_process).startswith("mine-")
        with pytest.raises(mp.WorkerDiedError):
            pool.apply(die, (signal.SIGKILL,))
        assert pool.apply(name_of_process).startswith("mine-")
    assert isinstance(OwnNames.Process(context), procession.process.BaseProcess)


def test_processes_that_are_not_daemonic_may_be_workers():
    class Free(Pool):
        @staticmethod
        def Process(ctx, *args, **kwds):
            return NotDaemonic(*args, **kwds)

    class NotDaemonic(mp.get_context("fork").Process):  # type: ignore[misc]
        @property
        def daemon(self):
            return False

        @daemon.setter
        def daemon(self, value):
            pass

    with Free(1, context=mp.get_context("fork")) as pool:
        assert pool.apply(square, (3,)) == 9 and not pool._pool[0].daemon


def test_threads_of_a_subclass_are_used():
    class Named(ThreadPool):
        @staticmethod
        def Process(ctx, *args, **kwds):
            thread = ThreadPool.Process(ctx, *args, **kwds)
            thread.name = "mine"
            return thread

    with Named(1) as pool:
        assert pool.apply(lambda: threading.current_thread().name) == "mine"


@pytest.mark.parametrize("kind", [Pool, ThreadPool])
def test_apply_goes_through_apply_async_of_a_subclass(kind):
    class Counting(kind):  # type: ignore[misc, valid-type]
        calls = 0

        def apply_async(self, *args, **kwds):
            type(self).calls += 1
            return super().apply_async(*args, **kwds)

    with Counting(1) as pool:
        assert pool.apply(pow, (2, 5)) == 32 and Counting.calls == 1


def test_map_and_its_kin_go_through_the_map_async_of_a_subclass():
    class Counting(ThreadPool):
        mappers: ClassVar[list[Any]] = []

        def _map_async(self, func, iterable, mapper, chunksize=None, callback=None, error_callback=None):
            self.mappers.append(mapper)
            return super()._map_async(func, iterable, mapper, chunksize, callback, error_callback)

    with Counting(1) as pool:
        assert pool.map(square, [2]) == pool.map_async(square, [2]).get() == [4]
        assert pool.starmap(pow, [(2, 2)]) == pool.starmap_async(pow, [(2, 2)]).get() == [4]
    mapstar, starmapstar = procession.pool.mapstar, procession.pool.starmapstar
    assert Counting.mappers == [mapstar, mapstar, starmapstar, starmapstar]


# --- contexts of the standard library ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Pool, futures.ProcessPoolExecutor])
def test_a_context_of_the_standard_library_stands_for_its_start_method(start_method, kind):
    given = {"context" if kind is Pool else "mp_context": multiprocessing.get_context(start_method)}
    with kind(1, **given) as pool:
        assert list(pool.map(square, range(5))) == [x * x for x in range(5)]
        made = pool._ctx if kind is Pool else pool._mp_context
        assert made is mp.get_context(start_method)


def test_a_context_derived_from_the_standard_librarys_is_refused_at_once():
    class Derived(type(multiprocessing.get_context("spawn"))):  # type: ignore[misc]
        pass

    for make in (lambda: Pool(1, context=Derived()), lambda: futures.ProcessPoolExecutor(1, mp_context=Derived())):
        with pytest.raises(TypeError, match=r"derive it from procession.context.SpawnContext"):
            make()


def test_a_pool_on_queues_that_is_forgotten_ends_with_the_program():
    code = """
        import procession, warnings
        from procession.pool import Pool
        class Own(Pool):
            def _setup_queues(self):
                super()._setup_queues()
        if __name__ == "__main__":
            pool = Own(2, context=procession.get_context("fork"))
            print(pool.map(abs, [-1, -2]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[1, 2]\n", "", 0)


def test_a_context_that_has_every_attribute_is_not_taken_for_a_cluster():
    from unittest.mock import MagicMock

    made = []

    class Failing(mp.get_context("fork").Process):
        def start(self):
            if len(made) == 2:
                raise OSError("no more")
            made.append(self)
            super().start()

    with pytest.raises(OSError, match="no more"):
        mp.pool.Pool(5, context=MagicMock(Process=Failing))
    assert len(made) == 2
    assert not any(process.is_alive() for process in made)
