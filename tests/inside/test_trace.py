"""`procession trace` records what happens, as Perfetto and chrome://tracing read it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from deadlines import PATIENCE, state, until
from scenes import command, scene
from trace_events import check, names

ENOUGH = 3 * 124 * 4  # tasks after which three workers have forgotten all that they had run before
SOME = 200


def returned(program):
    objects = program.report()["family"]["objects"]
    return next(one["totals"]["returned"] for one in objects if one["kind"] == "Pool")


def until_tasks(program, count):
    """Waits until `count` more tasks have returned."""
    goal = returned(program) + count
    until(lambda: returned(program) >= goal)


@contextlib.contextmanager
def tracing(program, path):
    """Traces a program until Ctrl-C, at the end of the block."""
    arguments = [sys.executable, "-m", "procession.inspect", "trace", str(program.pid), "--seconds", "1000"]
    observer = subprocess.Popen(
        [*arguments, "-o", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(path.exists)
        until_tasks(program, SOME)
        yield observer
        observer.send_signal(signal.SIGINT)
        output, errors = observer.communicate(timeout=PATIENCE)
        assert observer.returncode == 0, errors
        assert str(path) in output
        observer.errors = errors
    finally:
        observer.kill()
        observer.communicate()


def traced(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def tasks(trace):
    """The numbers of the tasks that have ended."""
    events = [event for event in trace["traceEvents"] if event.get("cat") == "task"]
    return sorted(event["args"]["number"] for event in events if "runs" not in event["args"])


def gaps(numbers):
    """How many numbers are missing, but for those at the ends: three workers run them side by side."""
    inner = set(range(numbers[0] + 6, numbers[-1] - 6))
    return len(inner - set(numbers))


def test_a_trace_has_each_task_each_wait_each_holder_and_each_depth(start_method, tmp_path):
    path = tmp_path / "t.json"
    # Workers forget a task after half a second, in which the observer may wait for a processor.
    with scene("steady_pool", start_method, "0.004") as program:
        with tracing(program, path) as observer:
            until_tasks(program, SOME)
        assert observer.errors == ""
    trace = traced(path)
    check(trace)
    assert trace["otherData"]["tasks_missed"] == 0
    numbers = tasks(trace)
    assert len(numbers) == len(set(numbers)) >= SOME
    assert gaps(numbers) == 0
    events, named = trace["traceEvents"], names(trace["traceEvents"])
    workers = {named["thread", event["pid"], event["tid"]] for event in events if event.get("cat") == "task"}
    assert len(workers) == 3 and all("PoolWorker" in worker for worker in workers)
    waits = {(named["process", event["pid"], 0], event["name"]) for event in events if event.get("cat") == "wait"}
    assert any(who == "waiter" and 'Lock "index", held by holder' in what for who, what in waits), waits
    holds = [event for event in events if event.get("cat") == "lock"]
    assert 'Lock "index"' in {named["thread", event["pid"], event["tid"]] for event in holds}
    assert any(event["name"].startswith("holder ") for event in holds)
    counters = {event["name"]: event["args"] for event in events if event["ph"] == "C"}
    assert counters['Queue "jobs"'] == {"messages": 1}
    assert any(set(values) == {"waiting", "running"} for values in counters.values())


def test_tasks_that_a_stopped_observer_has_missed_are_counted(tmp_path):
    path = tmp_path / "t.json"
    with scene("steady_pool", "fork", "0.001") as program, tracing(program, path) as observer:
        observer.send_signal(signal.SIGSTOP)
        until(lambda: state(observer.pid) == "T")
        until_tasks(program, ENOUGH)
        observer.send_signal(signal.SIGCONT)
        until_tasks(program, ENOUGH)
    trace = traced(path)
    check(trace)
    missed = trace["otherData"]["tasks_missed"]
    assert missed > 0
    assert f"{missed} tasks are missing" in observer.errors
    assert gaps(tasks(trace)) == missed
    marks = [event["name"] for event in trace["traceEvents"] if event["ph"] == "i"]
    assert sum(int(mark.split()[0]) for mark in marks if mark.endswith("tasks are missing")) == missed


def test_a_trace_ends_with_its_time_or_with_the_program(tmp_path):
    with scene("long_chunk", "fork") as program:
        output, errors, status = command("trace", str(program.pid), "--seconds", "0.2", "-o", str(tmp_path / "a"))
        assert (errors, status) == ("", 0)
        assert "written" in output
        trace = traced(tmp_path / "a")
        check(trace)
        # a task that has not ended is there with its time so far
        running = [event for event in trace["traceEvents"] if event["args"].get("runs")]
        assert len(running) == 1 and running[0]["name"] == "__main__.work"
        assert running[0]["args"]["number"] == 3
        assert running[0]["dur"] >= 0.2e6 * 0.9
        watcher = subprocess.Popen(
            [sys.executable, "-m", "procession.inspect", "trace", str(program.pid), "-o", str(tmp_path / "b")],
            stdout=subprocess.PIPE,
        )
        until((tmp_path / "b").exists)
        os.killpg(program.pid, signal.SIGKILL)
        assert watcher.wait(PATIENCE) == 0
        watcher.communicate()
    check(traced(tmp_path / "b"))


def test_the_task_of_a_killed_worker_is_on_a_track_with_a_name(tmp_path):
    with scene("long_chunk", "fork") as program:
        until(lambda: returned(program) == 3)
        os.kill(program.pid, signal.SIGSTOP)  # so that no new worker comes
        until(lambda: state(program.pid) == "T")
        (pool,) = (one for one in program.report()["family"]["objects"] if one["kind"] == "Pool")
        (worker,) = (one for one in pool["workers"] if one["task"])
        os.kill(worker["who"]["pid"], signal.SIGKILL)
        until(lambda: state(worker["who"]["pid"]) in "ZX")
        errors, status = command("trace", str(program.pid), "--seconds", "0.1", "-o", str(tmp_path / "t"))[1:]
        assert (errors, status) == ("", 0)
    trace = traced(tmp_path / "t")
    check(trace)
    (running,) = (event for event in trace["traceEvents"] if event["args"].get("runs"))
    named = names(trace["traceEvents"])
    assert named["thread", running["pid"], running["tid"]] == f"{worker['slot']} a worker that has ended"


def test_two_queues_of_one_name_have_two_counters(context, tmp_path):
    one, two = context.Queue(name="jobs"), context.Queue(name="jobs")
    for message in range(3):
        one.put(message)
    errors, status = command("trace", str(os.getpid()), "--seconds", "0.1", "-o", str(tmp_path / "t"))[1:]
    assert (errors, status) == ("", 0)
    trace = traced(tmp_path / "t")
    check(trace)
    counters = {event["name"]: event["args"]["messages"] for event in trace["traceEvents"] if event["ph"] == "C"}
    jobs = {name: depth for name, depth in counters.items() if name.startswith('Queue "jobs"')}
    assert len(jobs) == 2 and sorted(jobs.values()) == [0, 3], counters
    del two


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--seconds", "no"], ["--seconds"]])
def test_a_length_that_is_none_is_refused(wrong):
    _, errors, status = command("trace", str(os.getpid()), *wrong)
    assert status == 2 and "--seconds needs a" in errors


def test_a_trace_of_no_program_leaves_no_file(tmp_path):
    path = tmp_path / "t.json"
    with scene("steady_pool", "fork", "0.001") as program:
        path.write_text("mine")
        assert command("trace", str(program.pid), "--seconds", "0.1", "-o", str(path))[2] == 2
        assert path.read_text() == "mine"
    gone = tmp_path / "gone.json"
    assert command("trace", str(program.pid), "-o", str(gone))[2] == 2
    assert not gone.exists()
