"""Pools and executors without the extension: the same options, on processes with a pipe each."""

from __future__ import annotations

import pytest

from programs import run, write

PROGRAM = """
import logging, os, random, signal, sys, time
import procession as mp
from procession.futures import ProcessPoolExecutor

def square(n):
    return n * n

def inverse(n):
    return 1 / n

def dies(n):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n

def dies_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "again"

def begin(text):
    mp.worker_state()["text"] = text

def state(_):
    return mp.worker_state()["text"], mp.worker_id() in (0, 1), os.environ["MODE"]

def ends():
    return "ended"

def says(n):
    logging.getLogger("of.worker").warning("record %d", n)
    print("line", n)
    return n

def soft():
    try:
        time.sleep(PATIENCE)
    except mp.SoftTimeoutError:
        return "asked"

def main(context, folder):
    with context.Pool(2) as pool:
        assert pool.map(square, range(100)) == [n * n for n in range(100)]
        assert list(pool.imap(square, range(100), buffersize=4)) == [n * n for n in range(100)]
        factor = 3
        assert pool.map(lambda n: n * factor, range(4)) == [0, 3, 6, 9]
        results = [pool.apply_async(dies, (n,)) for n in range(6)]
        told = []
        for result in results:
            try:
                told.append(result.get(PATIENCE))
            except mp.WorkerDiedError as error:
                told.append((error.exitcode, error.function))
        print(told)
        found = pool.map(dies, range(6), 3, on_error="return")
        print([one if isinstance(one, int) else (type(one).__name__, one.task) for one in found])
        print(pool.apply_async(dies_once, (os.path.join(folder, "once"),), retries=1).get(PATIENCE))
        print(pool.map(inverse, [1, 0, 4], on_error="return"))
        try:
            pool.map(inverse, [0, 1, 0], on_error="group")
        except ExceptionGroup as group:
            print(group.message, [error.item_index for error in group.exceptions])
        try:
            pool.apply_async(time.sleep, (PATIENCE,), timeout=0.2).get(PATIENCE)
        except mp.TaskTimeoutError as error:
            print(error.function, error.limit)
        slow = pool.apply_async(time.sleep, (PATIENCE,))
        while not any(row.state == "busy" for row in pool.statistics()):
            time.sleep(0.01)
        print(slow.cancel(), pool.apply(square, (4,)))
        told = []
        pool.map(square, range(8), progress=lambda done, total: told.append((done, total)))
        print(told[-1])
        pool.resize(3)
        print(len(pool.statistics()), pool.map(square, range(3)))
    options = dict(env={"MODE": "test"}, exit_function=ends, logs=True, output=lambda line, source: lines.append(line))
    lines = []
    with context.Pool(2, begin, ("hello",), **options) as pool:
        print(pool.map(state, range(2)))
        print(pool.map(says, range(2), 1))
        pool.close()
        pool.join()
    print(sorted(lines), sorted(records), pool.exit_results())
    with context.Pool(2, soft_timeout=0.2) as pool:
        print(pool.apply(soft))
    with ProcessPoolExecutor(2, mp_context=context, retries=1, seed=7) as executor:
        print(executor.submit(pow, 2, 10).result(), list(executor.map(square, range(4))))
        one = list(executor.map(draw, range(4)))
    with ProcessPoolExecutor(1, mp_context=context, seed=7) as executor:
        executor.submit(pow, 2, 10).result(), list(executor.map(square, range(4)))
        print(one == list(executor.map(draw, range(4))), len(set(one)))
    with mp.pool.ThreadPool(2) as pool:
        print(pool.map(square, range(3)), pool.apply(os.getpid) == os.getpid())

def draw(_):
    return random.random()

class Handler(logging.Handler):
    def emit(self, record):
        records.append((record.getMessage(), record.name))

records = []

if __name__ == "__main__":
    logging.getLogger().addHandler(Handler())
    main(mp.get_context(sys.argv[1]), sys.argv[2])
"""

PRINTS = """
[0, 1, 2, (-9, 'dies'), 4, 5]
[0, 1, 2, ('WorkerDiedError', 3), ('WorkerDiedError', 3), ('WorkerDiedError', 3)]
again
[1.0, ZeroDivisionError('division by zero'), 0.25]
2 of 3 calls of inverse() failed [0, 2]
sleep 0.2
True 16
(8, 8)
3 [0, 1, 4]
[('hello', True, 'test'), ('hello', True, 'test')]
[0, 1]
['line 0', 'line 1'] [('record 0', 'of.worker'), ('record 1', 'of.worker')] ['ended', 'ended']
asked
1024 [0, 1, 4, 9]
True 4
[0, 1, 4] True
"""


def test_the_options_of_pools_mean_the_same(start_method, tmp_path):
    program = write(tmp_path / "program.py", PROGRAM)
    printed = run(program, start_method, tmp_path, PROCESSION_FALLBACK="1").well()
    assert printed.splitlines() == PRINTS.strip().splitlines()


def test_the_options_of_processes_mean_the_same(start_method, tmp_path):
    text = """
    import logging, sys, time
    import procession as mp

    def says():
        logging.getLogger("of.child").warning("a record")
        print("a line", flush=True)

    def sleeps(begun):
        begun.set()
        time.sleep(PATIENCE)

    class Handler(logging.Handler):
        def emit(self, record):
            heard.append((record.getMessage(), record.processName))

    heard = []

    if __name__ == "__main__":
        logging.getLogger().addHandler(Handler())
        context = mp.get_context(sys.argv[1])
        tell = lambda line, source: heard.append((line, source.name, source.stream))
        child = context.Process(target=says, name="child", logs=True, output=tell)
        child.start()
        child.join()
        print(child.exitcode, sorted(heard))
        begun = context.Event()
        child = context.Process(target=sleeps, args=(begun,))
        child.start()
        begun.wait()
        child.terminate(grace=PATIENCE)
        print(child.exitcode)
        begun.clear()
        child = context.Process(target=sleeps, args=(begun,), output=lambda line, source: None)
        child.start()
        begun.wait()
        child.interrupt()
        child.join()
        print(child.exitcode)
    """
    program = write(tmp_path / "program.py", text)
    printed = run(program, start_method, PROCESSION_FALLBACK="1").well()
    assert printed == "0 [('a line', 'child', 'stdout'), ('a record', 'child')]\n-15\n1\n"


@pytest.mark.parametrize("way", ["a script", "a module", "a text"])
def test_programs_of_multiprocessing_are_run_with_it(way, tmp_path):
    text = """
    import multiprocessing, sys, procession

    def tell(queue):
        queue.put(type(multiprocessing.current_process()).__module__.partition(".")[0])

    if __name__ == "__main__":
        queue = multiprocessing.Queue()
        child = multiprocessing.get_context("fork").Process(target=tell, args=(queue,))
        child.start()
        print(queue.get(), multiprocessing.__name__, procession.native, sys.argv[1:])
        child.join()
    """
    program = write(tmp_path / "program.py", text)
    how = {"a script": [program], "a module": ["-m", "program"], "a text": ["-c", program.read_text()]}[way]
    printed = run("-m", "procession", *how, "word", cwd=tmp_path, PROCESSION_FALLBACK="1").well()
    assert printed == "multiprocessing multiprocessing False ['word']\n"


def test_initializers_that_fail_break_the_pool_with_their_reason(start_method, tmp_path):
    text = """
    import sys
    import procession as mp

    def begin():
        raise OSError("no licence")

    if __name__ == "__main__":
        with mp.get_context(sys.argv[1]).Pool(2, begin) as pool:
            try:
                pool.apply(abs, (1,))
            except mp.PoolBrokenError as error:
                print(repr(error.__cause__))
    """
    program = write(tmp_path / "program.py", text)
    assert run(program, start_method, PROCESSION_FALLBACK="1").well() == "OSError('no licence')\n"


def test_workers_end_with_the_program_however_it_ends(start_method, tmp_path):
    text = """
    import os, signal, sys
    import procession as mp

    if __name__ == "__main__":
        pool = mp.get_context(sys.argv[1]).Pool(2)
        print(*{process.pid for process in pool._pool}, flush=True)
        pool.map(abs, range(10))
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    from deadlines import state, until

    program = write(tmp_path / "program.py", text)
    for end in "left", "killed":
        outcome = run(program, start_method, end, PROCESSION_FALLBACK="1")
        workers = [int(word) for word in outcome.out.split()]
        assert len(workers) == 2, outcome
        until(lambda workers=workers: all(state(pid) in "XZ" for pid in workers))
