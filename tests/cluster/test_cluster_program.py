"""Programs that know nothing of clusters, under `python -m procession --cluster ADDRESS`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deadlines import PATIENCE

PROGRAM = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Barrier, JoinableQueue, Manager, Pool, Process, Queue, SimpleQueue, Value
from multiprocessing import Condition, Event, Lock, RLock, BoundedSemaphore, Semaphore

counts = {"begun": 0}

def keep(lock, step):
    global kept
    kept = lock, step
    counts["begun"] += 1

def guarded(n):
    lock, step = kept
    with lock:
        return n * step * counts["begun"]

def square(n):
    return n * n, multiprocessing.__name__, os.getppid()

def put(shared, key):
    shared[key] = os.getpid()
    print("printed by", key)

def work(tasks, results, lock, begun):
    begun.wait()
    for n in iter(tasks.get, None):
        with lock:
            results.put((n * n, os.getppid()))
        tasks.task_done()

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    with Pool() as pool:
        found = pool.map(square, range(10), chunksize=1)
    assert [n for n, _, _ in found] == [n * n for n in range(10)]
    assert {name for _, name, _ in found} == {"procession"}
    assert os.getpid() not in {parent for _, _, parent in found}
    assert multiprocessing.cpu_count() == 2
    step, counts["begun"] = 3, 0
    with Pool(2, keep, (Lock(), step)) as pool:
        assert pool.map(guarded, range(4)) == [0, 3, 6, 9]
        assert pool.apply(guarded, (5,)) == 15
    with ProcessPoolExecutor(2, initializer=keep, initargs=(Lock(), step)) as executor:
        assert list(executor.map(guarded, range(4))) == [0, 3, 6, 9]
    with Manager() as manager:
        shared = manager.dict()
        processes = [Process(target=put, args=(shared, key)) for key in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert sorted(shared.keys()) == [0, 1, 2]
    with ProcessPoolExecutor() as executor:
        assert [n for n, _, _ in executor.map(square, range(4))] == [0, 1, 4, 9]
    tasks, results, lock, begun = JoinableQueue(), Queue(100), Lock(), Event()
    workers = [Process(target=work, args=(tasks, results, lock, begun)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for n in range(10):
        tasks.put(n)
    begun.set()
    tasks.join()
    assert sorted(results.get()[0] for n in range(10)) == [n * n for n in range(10)]
    for worker in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    for made in (SimpleQueue(), RLock(), Semaphore(2), BoundedSemaphore(2), Condition(), Barrier(2)):
        assert "_cluster" in type(made).__module__, made
    try:
        Process(target=print, args=(Value("i"),)).start()
    except TypeError as error:
        assert "an object of this machine" in str(error)
    else:
        raise AssertionError("a Value was sent")
    print("all right")
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "procession", *arguments],
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE,
        check=False,
    )


def test_a_program_that_knows_nothing_of_clusters_runs_on_one(shared_nodes, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = run("--cluster", shared_nodes.address, str(path))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["all right", *(f"printed by {key}" for key in range(3))]


def test_the_address_may_follow_an_equals_sign(shared_nodes):
    code = "import multiprocessing as mp; print(mp.get_start_method(), mp.cpu_count())"
    assert run(f"--cluster={shared_nodes.address}", "-c", code).stdout == "dask 2\n"


@pytest.mark.parametrize("arguments", [["--cluster"], ["--cluster", "tcp://127.0.0.1:1"], ["--cluster=", "x.py"]])
def test_a_missing_address_or_program_is_refused(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "--cluster needs the address of a scheduler, and a program after it" in done.stderr


def test_plain_tcp_beyond_this_machine_is_refused():
    done = run("--cluster", "tcp://192.0.2.1:8786", "-c", "import multiprocessing as mp; mp.Pool()")
    assert done.returncode == 1
    assert "is not encrypted" in done.stderr
