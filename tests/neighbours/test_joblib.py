"""joblib's `Parallel` with our workers: results, deaths, arrays in shared memory, errors, Ctrl-C."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest

import procession as mp
from deadlines import PATIENCE, until
from programs import run, write

joblib = pytest.importorskip("joblib")
from joblib import Parallel, delayed, parallel_config  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*unclosed running multiprocessing pool:ResourceWarning")


@pytest.fixture(autouse=True)
def backend():
    """The backend with two workers; its workers end with the test."""
    from procession._neighbours import kept_executors
    from procession.joblib import register

    register()
    with parallel_config(backend="procession", n_jobs=2):
        yield
    kept = list(kept_executors._idle)
    kept_executors._idle.clear()
    for one in kept:
        one.executor.shutdown()


def die_once(mark, n):
    if n == 3:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return n
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def marked(n):
    return os.environ.get("MARKED"), n


def mark(text):
    os.environ["MARKED"] = text


def started(mark, seconds):
    with open(f"{mark}-{os.getpid()}", "w"):
        pass
    time.sleep(seconds)


def test_results_come_in_order_also_from_generators_and_in_batches():
    assert Parallel()(delayed(pow)(n, 2) for n in range(50)) == [n * n for n in range(50)]
    assert Parallel(batch_size=7)(delayed(pow)(n, 2) for n in range(50)) == [n * n for n in range(50)]
    assert list(Parallel(return_as="generator")(delayed(abs)(-n) for n in range(9))) == list(range(9))
    unordered = Parallel(return_as="generator_unordered")(delayed(abs)(-n) for n in range(9))
    assert sorted(unordered) == list(range(9))


def test_two_generators_at_the_same_time_do_not_disturb_each_other():
    first = Parallel(return_as="generator")(delayed(abs)(-n) for n in range(9))
    second = Parallel(return_as="generator")(delayed(abs)(-n) for n in range(9))
    assert list(zip(first, second, strict=True)) == [(n, n) for n in range(9)]


def test_lambdas_and_local_classes_are_sent():
    class Local:
        def __init__(self, n):
            self.n = n

    assert [made.n for made in Parallel()(delayed(lambda n: Local(n + 1))(n) for n in range(5))] == [1, 2, 3, 4, 5]


def test_workers_stay_for_the_next_call():
    before = set(Parallel()(delayed(os.getpid)() for _ in range(20)))
    assert set(Parallel()(delayed(os.getpid)() for _ in range(20))) <= before | set(mp_children())
    assert len(mp_children()) == 2


def mp_children():
    return [child.pid for child in mp.active_children()]


def test_idle_workers_end_after_the_timeout():
    with parallel_config(backend="procession", n_jobs=2, idle_worker_timeout=0.01):
        Parallel()(delayed(abs)(n) for n in range(4))
    until(lambda: not mp_children())


def test_a_killed_worker_costs_nothing_with_retries(tmp_path):
    with parallel_config(backend="procession", n_jobs=2, retries=1):
        assert Parallel()(delayed(die_once)(tmp_path / "mark", n) for n in range(9)) == list(range(9))


def test_without_retries_a_killed_worker_fails_the_call_and_the_next_one_works(tmp_path):
    with pytest.raises(mp.WorkerDiedError, match="SIGKILL"):
        Parallel()(delayed(die_once)(tmp_path / "mark", n) for n in range(9))
    assert Parallel()(delayed(abs)(-n) for n in range(9)) == list(range(9))


def test_an_exception_of_a_task_arrives_with_the_traceback_of_the_worker():
    with pytest.raises(ZeroDivisionError) as caught:
        Parallel()(delayed(divmod)(1, n) for n in range(9))
    assert "in __call__" in str(caught.value.__cause__)


def test_an_exception_of_a_task_ends_those_that_run(tmp_path):
    def fail(n):
        until(lambda: len(list(tmp_path.iterdir())) >= 1)
        raise KeyError(n)

    began = time.monotonic()
    with pytest.raises(KeyError):
        Parallel(batch_size=1)(
            [delayed(started)(tmp_path / "ran", 10 * PATIENCE), delayed(fail)(1)],
        )
    assert time.monotonic() - began < 5 * PATIENCE
    assert Parallel()(delayed(abs)(-n) for n in range(9)) == list(range(9))


def test_a_timeout_ends_the_tasks_that_run():
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(time.sleep)(10 * PATIENCE) for _ in range(3))
    assert Parallel()(delayed(abs)(-n) for n in range(9)) == list(range(9))


def test_each_worker_calls_the_initializer_first():
    with parallel_config(backend="procession", n_jobs=2, initializer=mark, initargs=("yes",)):
        assert Parallel()(delayed(marked)(n) for n in range(4)) == [("yes", n) for n in range(4)]
    assert Parallel()(delayed(marked)(n) for n in range(4)) == [(None, n) for n in range(4)]


def test_numerical_libraries_use_as_many_threads_as_are_asked_for():
    with parallel_config(backend="procession", n_jobs=2, inner_max_num_threads=3):
        assert Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)) == ["3", "3"]


def nested(backend):
    with parallel_config(n_jobs=2, **({} if backend is None else {"backend": backend})):
        return Parallel()(delayed(pow)(n, 2) for n in range(3))


@pytest.mark.parametrize("inner", [None, "procession", "threading"])
def test_a_task_may_use_joblib_itself(inner):
    assert Parallel()(delayed(nested)(inner) for _ in range(2)) == [[0, 1, 4]] * 2


def test_a_forked_child_has_workers_of_its_own():
    Parallel()(delayed(abs)(n) for n in range(4))
    there, back = mp.Pipe()

    def child():
        back.send(Parallel()(delayed(abs)(-n) for n in range(4)))

    process = mp.get_context("fork").Process(target=child)
    process.start()
    assert there.poll(PATIENCE)
    assert there.recv() == [0, 1, 2, 3]
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert Parallel()(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


def test_all_cpus_are_those_that_this_process_may_use():
    assert joblib.effective_n_jobs(-1) == mp.cpu_count()
    assert joblib.effective_n_jobs(-1000) == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(abs)(n) for n in range(2))


def test_an_option_that_does_not_exist_is_refused():
    with parallel_config(backend="procession", n_jobs=2, retry=3), pytest.raises(TypeError, match="'retry'"):
        Parallel()(delayed(abs)(n) for n in range(2))
    with parallel_config(backend="procession", n_jobs=2, timeout=3), pytest.raises(ValueError, match="Parallel"):
        Parallel()(delayed(abs)(n) for n in range(2))


# --- arrays -----------------------------------------------------------------------------------------------------------


def write_to(array, n):
    try:
        array[n] = n + 1
    except ValueError:
        return None
    return float(array[n])


@pytest.mark.parametrize(
    ("mode", "returned", "shared"), [("r", None, True), ("r+", 2.0, True), ("c", 2.0, False), (None, 2.0, False)]
)
def test_a_big_array_is_shared_as_the_mode_says(mode, returned, shared):
    np = pytest.importorskip("numpy")
    array = np.zeros(200_000)
    tasks = [delayed(write_to)(array, 1) for _ in range(4)]
    assert Parallel(mmap_mode=mode, max_nbytes=1000)(tasks) == [returned] * 4
    assert array[1] == 0
    # each copy has its own memory; what is shared is seen by the next task
    seen = Parallel(mmap_mode=mode, max_nbytes=1000, batch_size=1)(
        [delayed(write_to)(array, 1), *(delayed(np.sum)(array) for _ in range(8))]
    )[-1]
    assert seen == (2.0 if shared and mode == "r+" else 0.0)


def test_an_array_that_changes_between_calls_arrives_as_it_is_now():
    np = pytest.importorskip("numpy")
    array = np.zeros(200_000)
    with Parallel(max_nbytes=1000) as parallel:
        for n in range(3):
            array[:] = n
            assert parallel(delayed(np.max)(array) for _ in range(4)) == [n] * 4


def test_order_dtype_and_shape_of_arrays_are_kept():
    np = pytest.importorskip("numpy")
    base = np.arange(24_000.0).reshape(4, 60, 100)
    arrays = [base, base.T, base[:, ::-2], np.asfortranarray(base), base.astype("f4"), np.array([{}, None])]
    frozen = base.copy()
    frozen.flags.writeable = False
    for limit in (1000, None):
        for one in [*arrays, frozen]:
            [there] = Parallel(max_nbytes=limit)([delayed(lambda a: (a.dtype, a.shape, a.flags.f_contiguous, a))(one)])
            assert there[:3] == (one.dtype, one.shape, one.flags.f_contiguous) or not one.flags.forc
            assert np.array_equal(there[3], one)


def test_what_tasks_write_to_a_mapped_file_is_in_the_file(tmp_path):
    np = pytest.importorskip("numpy")
    mapped = np.memmap(tmp_path / "data", dtype="f8", shape=(4, 100), mode="w+")
    Parallel()(delayed(write_to)(mapped[n], 5) for n in range(4))
    Parallel()(delayed(write_to)(np.asarray(mapped)[n, ::-1], 0) for n in range(4))
    assert mapped[:, 5].tolist() == [6.0] * 4
    assert mapped[:, 99].tolist() == [1.0] * 4


def test_memory_of_shared_arrays_is_given_back():
    np = pytest.importorskip("numpy")
    for _ in range(20):
        Parallel()(delayed(np.sum)(np.full(2_000_000, float(n))) for n in range(8))
    with open("/proc/self/smaps_rollup") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("Rss:")) << 10
    assert resident < 1 << 30  # 2.5 GB have been sent


# --- programs ---------------------------------------------------------------------------------------------------------

UNGUARDED = """
import joblib
from procession.joblib import register

class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x

def double(point):
    return Point(2 * point.x)

def note(text):
    global noted
    noted = text

register()
with joblib.parallel_config(backend="procession", n_jobs=2, initializer=note, initargs=("x",)):
    doubled = joblib.Parallel()(joblib.delayed(double)(Point(n)) for n in range(5))
print(doubled == [Point(2 * n) for n in range(5)])
"""


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_program_needs_no_guard_of_its_main_module(how, tmp_path):
    if how == "file":
        outcome = run(write(tmp_path / "program.py", UNGUARDED), cwd=tmp_path)
    else:
        outcome = run("-", stdin=UNGUARDED, cwd=tmp_path)
    assert outcome.well() == "True\n"


INTERRUPTED = """
import signal, threading, time, os, sys
from joblib import Parallel, delayed, parallel_config
from procession.joblib import register

signal.signal(signal.SIGINT, signal.default_int_handler)
register()

def rest(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(PATIENCE * 10)

def interrupt():
    while len(os.listdir(sys.argv[1])) < 2:
        time.sleep(0.01)
    os.killpg(0, signal.SIGINT)

os.setpgrp()
with parallel_config(backend="procession", n_jobs=2):
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        Parallel(batch_size=1)(delayed(rest)(sys.argv[1]) for _ in range(2))
    except KeyboardInterrupt:
        print("interrupted")
    thread.join()
    print(Parallel()(delayed(abs)(-n) for n in range(3)))
"""


def test_ctrl_c_ends_the_tasks_and_the_next_call_works(tmp_path):
    (tmp_path / "pids").mkdir()
    outcome = run(write(tmp_path / "program.py", INTERRUPTED), str(tmp_path / "pids"), cwd=tmp_path)
    assert outcome.well() == "interrupted\n[0, 1, 2]\n"


def test_without_joblib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    ours = importlib.import_module("procession.joblib")
    with pytest.raises(ImportError, match=r"pip install 'procession\[joblib\]'"):
        ours.register()


def test_calls_of_several_threads_have_workers_of_their_own():
    results = []

    def call():
        with parallel_config(backend="procession", n_jobs=2):
            results.append(Parallel()(delayed(abs)(-n) for n in range(9)))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [list(range(9))] * 3


@pytest.mark.parametrize("option", ["seed", "exit_function"])
def test_options_that_mean_nothing_to_joblib_are_refused(option):
    with pytest.raises(ValueError, match=option), joblib.parallel_config("procession", n_jobs=2, **{option: print}):
        joblib.Parallel()(joblib.delayed(abs)(n) for n in range(2))
