"""What workers log and print reaches their parent: `logs=` and `output=`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

import procession as mp
from deadlines import until
from procession import futures
from procession.pool import ThreadPool

LOG = logging.getLogger("of.the.worker")


def log(n):
    LOG.info("item %d", n)
    LOG.debug("not shown")
    return os.getpid()


def log_and_die(n):
    for number in range(n):
        LOG.warning("last words %d", number)
    os.kill(os.getpid(), signal.SIGKILL)


def log_an_exception(_):
    try:
        raise LookupError("inside")
    except LookupError:
        LOG.exception("it %s", "failed", extra={"lock": threading.Lock(), "number": 3})


def log_in_a_pool_of_its_own(n):
    with mp.get_context("fork").Pool(1, logs=True) as pool:
        pid = pool.apply(log, (n,))
    pool.join()
    return pid


def say(n):
    print(f"line {n}")
    print(f"error {n}", file=sys.stderr)


def say_in_c(n):
    subprocess.run(["sh", "-c", f"echo from outside {n}; echo bad {n} >&2"], check=True)
    os.write(1, b"direct\n")


def say_in_pieces(n):
    for _ in range(200):
        os.write(1, b"%d" % n * 10)
        os.write(1, b"\n")


def say_and_die(n):
    os.write(1, b"last words\nwithout an end")
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_ever(_):
    print("waiting", flush=True)
    threading.Event().wait()


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def texts(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def kept():
    handler = Kept()
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def ended(pool):
    pool.close()
    pool.join()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_records_of_workers_reach_the_handlers_of_the_parent_in_order(context, kept):
    pool = context.Pool(2, logs=True)
    pids = pool.map(log, range(40), 1)
    ended(pool)
    assert sorted(kept.texts()) == sorted(f"item {n}" for n in range(40))
    for pid in set(pids):
        assert [record.getMessage() for record in kept.records if record.process == pid] == [
            f"item {n}" for n in range(40) if pids[n] == pid
        ]
    for record in kept.records:
        assert record.name == "of.the.worker"
        assert "PoolWorker" in record.processName
        assert record.worker in (0, 1)
        assert record.funcName == "log"


def test_the_levels_are_those_of_the_parent(context, kept):
    LOG.setLevel(logging.DEBUG)
    try:
        pool = context.Pool(1, logs=True)
        pool.map(log, range(3))
        ended(pool)
    finally:
        LOG.setLevel(logging.NOTSET)
    assert kept.texts().count("not shown") == 3


def test_a_killed_worker_loses_nothing_that_it_has_logged(context, kept):
    pool = context.Pool(1, logs=True)
    with pytest.raises(mp.WorkerDiedError):
        pool.apply(log_and_die, (100,))
    ended(pool)
    assert kept.texts() == [f"last words {number}" for number in range(100)]


def test_records_of_a_terminated_pool_arrive(context, kept):
    with context.Pool(2, logs=True) as pool:
        pool.map(log, range(10))
    pool.join()
    assert len(kept.records) == 10


def test_exceptions_and_attributes_that_cannot_be_sent_go_as_text(context, kept):
    pool = context.Pool(1, logs=True)
    pool.apply(log_an_exception, (0,))
    ended(pool)
    (record,) = kept.records
    assert record.getMessage() == "it failed"
    assert "LookupError: inside" in record.exc_text
    assert "lock" in record.lock
    assert record.number == 3


def test_records_of_a_pool_in_a_worker_go_all_the_way(context, kept):
    pool = context.Pool(1, logs=True)
    pid = pool.apply(log_in_a_pool_of_its_own, (1,))
    ended(pool)
    assert kept.texts() == ["item 1"]
    assert kept.records[0].process == pid


def test_loggers_that_do_not_propagate_have_their_own_handlers(context, kept):
    LOG.propagate = False
    own = Kept()
    LOG.addHandler(own)
    LOG.setLevel(logging.INFO)
    try:
        pool = context.Pool(1, logs=True)
        pool.map(log, range(3))
        ended(pool)
    finally:
        LOG.removeHandler(own)
        LOG.propagate = True
        LOG.setLevel(logging.NOTSET)
    assert own.texts() == ["item 0", "item 1", "item 2"]
    assert not kept.records


def test_a_failing_handler_does_not_stop_the_others(kept, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(kept, "handle", lambda record: 1 / 0 if record.getMessage() == "item 0" else kept.emit(record))
    pool = mp.Pool(1, logs=True)
    pool.map(log, range(3))
    ended(pool)
    assert kept.texts() == ["item 1", "item 2"]


def test_executors_pass_on_records_and_lines(context, kept):
    lines = []
    with futures.ProcessPoolExecutor(
        1, context, logs=True, output=lambda line, source: lines.append((line, source.stream))
    ) as executor:
        list(executor.map(log, range(2)))
        executor.submit(say, 5).result()
    assert kept.texts() == ["item 0", "item 1"]
    assert sorted(lines) == [("error 5", "stderr"), ("line 5", "stdout")]


# --- output -----------------------------------------------------------------------------------------------------------


def lines_of(context, workers, function, items, **options):
    lines = []
    pool = context.Pool(workers, output=lambda line, source: lines.append((line, source)), **options)
    pool.map(function, items, 1)
    ended(pool)
    return lines


def test_lines_of_workers_reach_a_function_with_their_source(context):
    lines = lines_of(context, 2, say, range(20))
    for stream, word in (("stdout", "line"), ("stderr", "error")):
        found = [line for line, source in lines if source.stream == stream]
        assert sorted(found) == sorted(f"{word} {n}" for n in range(20))
    assert {source.worker for _, source in lines} <= {0, 1}
    assert os.getpid() not in {source.pid for _, source in lines}


def test_output_of_other_programs_comes_as_well(context):
    lines = [(line, source.stream) for line, source in lines_of(context, 1, say_in_c, [7])]
    assert sorted(lines) == [("bad 7", "stderr"), ("direct", "stdout"), ("from outside 7", "stdout")]


def test_lines_are_never_torn(context):
    lines = [line for line, _ in lines_of(context, 3, say_in_pieces, range(6))]
    assert sorted(lines) == sorted(str(n) * 10 for n in range(6) for _ in range(200))


def test_what_a_killed_worker_has_written_arrives(context):
    lines = []
    pool = context.Pool(1, output=lambda line, source: lines.append(line))
    with pytest.raises(mp.WorkerDiedError):
        pool.apply(say_and_die, (0,))
    pool.apply(say, (1,))
    ended(pool)
    assert lines[:2] == ["last words", "without an end"]
    assert "line 1" in lines


def test_a_terminated_pool_has_passed_on_its_lines_when_it_is_joined(context):
    lines = []
    with context.Pool(1, output=lambda line, source: lines.append(line)) as pool:
        pool.apply_async(wait_for_ever, (0,))
        until(lambda: lines)
    pool.join()
    assert lines == ["waiting"]


def test_forwarded_lines_name_their_worker(context, capfd):
    with context.Pool(1, output="forward") as pool:
        pool.apply(say, (3,))
    pool.join()
    out, err = capfd.readouterr()
    assert out == "[worker 0] line 3\n"
    assert err == "[worker 0] error 3\n"


def test_a_failing_function_for_lines_does_not_stop_the_pool(capfd):
    with mp.Pool(1, output=lambda line, source: 1 / 0) as pool:
        pool.map(say, range(3), 1)
    pool.join()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_threads_and_descriptors_end_with_the_pool(context):
    context.Pool(1).terminate()  # a fork server is started once
    before = len(os.listdir("/proc/self/fd"))
    names = {thread.name for thread in threading.enumerate()}
    for _ in range(3):
        pool = context.Pool(1, logs=True, output=lambda line, source: None, maxtasksperchild=2)
        pool.map(say, range(4), 1)
        ended(pool)
    del pool
    assert {thread.name for thread in threading.enumerate()} <= names
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # each pool has five while it runs


def test_pools_without_the_options_have_no_such_threads():
    with mp.Pool(1) as pool:
        pool.apply(abs, (1,))
        assert not {"LogRelay", "OutputRelay"} & {thread.name for thread in threading.enumerate()}


def test_what_cannot_be_is_refused():
    for output in (3, "elsewhere"):
        with pytest.raises(TypeError, match="output"):
            mp.Pool(1, output=output)
    for option in ({"logs": True}, {"output": "forward"}):
        with pytest.raises(TypeError):
            ThreadPool(1, **option)
