"""Beside the standard library's package: its objects in our processes, and our contexts where it takes one."""

from __future__ import annotations

import os
import pickle

import pytest

import procession as mp
from procession import _core, futures, pool
from programs import run, write

SCRIPT = """
import concurrent.futures
import multiprocessing
import multiprocessing.shared_memory
import sys
import procession

def use(lock, event, semaphore, q, simple, joinable, connection, array, value, shared):
    with lock:
        array[0] += 1
    semaphore.release()
    event.set()
    connection.send(q.get(timeout=PATIENCE))
    simple.put("simple")
    joinable.put("joinable")
    value.value = 2.5
    shared.buf[0] = 77
    shared.close()

def square(x):
    return x * x

def kind():
    return procession.current_process()._start_method, multiprocessing.current_process().name

if __name__ == "__main__":
    method = sys.argv[1]
    assert multiprocessing is not procession
    theirs, ours = multiprocessing.get_context(sys.argv[2]), procession.get_context(method)
    shared = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
    objects = [theirs.Lock(), theirs.Event(), theirs.Semaphore(0), theirs.Queue(), theirs.SimpleQueue(),
               theirs.JoinableQueue(), None, theirs.Array("i", 3), theirs.Value("d", 1.0), shared]
    here, there = theirs.Pipe()
    objects[6] = there
    for n in range(2):
        objects[3].put("through a queue")
        process = ours.Process(target=use, args=objects, daemon=n == 1)
        process.start()
        assert here.recv() == "through a queue"
        assert objects[1].wait(PATIENCE) and objects[2].acquire(timeout=PATIENCE)
        assert objects[4].get() == "simple" and objects[5].get(timeout=PATIENCE) == "joinable"
        process.join()
        assert process.exitcode == 0
        assert (objects[7][0], objects[8].value, shared.buf[0]) == (n + 1, 2.5, 77)
    shared.close()
    multiprocessing.shared_memory.SharedMemory(shared.name).close()  # it is still there
    shared.unlink()

    if not hasattr(ours.SimpleQueue(), "_reader"):  # which the executor waits for
        ours.SimpleQueue = theirs.SimpleQueue
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=ours) as executor:
        assert list(executor.map(square, range(20))) == [x * x for x in range(20)]
        started, name = executor.submit(kind).result()
        assert started == method
        assert name != "MainProcess"
        try:
            executor.submit(square, "x").result()
        except TypeError:
            pass
    print("well")
"""


@pytest.mark.parametrize("theirs", ["spawn", "fork"])
def test_objects_and_executors_of_the_standard_library_work_with_our_processes(start_method, theirs, tmp_path):
    if theirs == "fork" and start_method != "fork":
        pytest.skip("the standard library's own rule: its objects of fork go to forked processes")
    script = write(tmp_path / "both.py", SCRIPT)
    assert run(script, start_method, theirs).well() == "well\n"


def test_a_context_is_one_of_multiprocessing_once_that_is_imported():
    code = """if True:
    import pickle, sys
    import procession as mp
    assert not any(name.startswith("multiprocessing") for name in sys.modules)
    context = mp.get_context("spawn")
    assert type(context) is context.__class__
    import multiprocessing.context
    for context in (mp.get_context(), mp.get_context("spawn"), mp.context._default_context):
        assert isinstance(context, multiprocessing.context.BaseContext)
        assert isinstance(context, mp.context.BaseContext)
        assert context.__class__.__name__ == type(context).__name__
        assert pickle.loads(pickle.dumps(context)) is context
    assert isinstance(mp.get_context("spawn"), mp.context.SpawnContext)
    assert not isinstance(mp.get_context("spawn"), mp.context.ForkContext)
    assert not isinstance(multiprocessing.get_context("spawn"), mp.context.BaseContext)
    """
    run("-c", code).well()


def test_contexts_can_be_pickled():
    for context in (mp.get_context("fork"), mp.get_context("spawn"), mp.context._default_context):
        assert pickle.loads(pickle.dumps(context)) is context


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        (["-X", "cpu_count=7"], {}, 7),
        ([], {"PYTHON_CPU_COUNT": "5"}, 5),
        (["-X", "cpu_count=7"], {"PYTHON_CPU_COUNT": "5"}, 7),
        (["-E"], {"PYTHON_CPU_COUNT": "5"}, None),
        (["-X", "cpu_count=default"], {}, None),
    ],
)
def test_the_number_of_cpus_is_that_which_may_be_used_and_can_be_overridden(options, environment, expected):
    code = """if True:
    import os, procession as mp
    free = mp.cpu_count()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(free, mp.cpu_count(), len(os.sched_getaffinity(0)))
    """
    free, pinned, _ = map(int, run(*options, "-c", code, **environment).well().split())
    if expected is None:
        assert pinned == 1
        assert free >= 1
    else:
        assert (free, pinned) == (expected, expected)


@pytest.mark.parametrize("name", ["cpu_count", "process_cpu_count"])
def test_a_function_in_place_of_pythons_own_count_of_cpus_is_heeded(monkeypatch, name):
    monkeypatch.setattr(os, name, lambda: 3, raising=False)
    with mp.Pool() as processes:
        assert processes._processes == 3
    with pool.ThreadPool() as threads:
        assert threads._processes == 3
    with futures.ProcessPoolExecutor() as executor:
        assert executor._max_workers == 3
    assert (mp.cpu_count() == 3) is (name == "cpu_count" or _core.cpu_count() == 3)
    monkeypatch.setattr(os, name, lambda: None)
    with pool.ThreadPool() as threads:
        assert threads._processes == 1
    if name == "cpu_count":
        with pytest.raises(NotImplementedError):
            mp.cpu_count()
