"""A process that waits too long prints why, once, and goes on."""

from __future__ import annotations

import os
import re

import pytest

import procession as mp
from programs import run
from scenes import SCENES


@pytest.mark.parametrize("how", ["variable", "function"])
def test_a_long_wait_is_reported_once_and_goes_on(start_method, how):
    environment = {"PROCESSION_STALL": "0.3"} if how == "variable" else {}
    outcome = run(SCENES / "stall.py", start_method, how, **environment)
    assert (outcome.code, outcome.out) == (0, "ready\nwent on\n"), outcome.err
    reports = [line for line in outcome.err.splitlines() if line.startswith("procession: ")]
    of_parent = [line for line in reports if line.startswith("procession: MainProcess ")]
    of_child = [line for line in reports if line.startswith("procession: consumer ")]
    assert len(of_parent) == 1 and "waits for the end of consumer" in of_parent[0]
    assert len(of_child) == 1 and "waits for a message of Queue" in of_child[0]


def test_a_wait_in_which_nothing_is_wrong_is_reported_in_one_line():
    outcome = run(SCENES / "stall.py", "fork", "variable", PROCESSION_STALL="0.3")
    assert (outcome.code, outcome.out) == (0, "ready\nwent on\n"), outcome.err
    lines = sorted(outcome.err.splitlines())
    waits = ("waits for the end of consumer \\d+", "waits for a message of Queue \\S+ \\(0 messages\\)")
    assert len(lines) == 2, outcome.err
    for line, name, wait in zip(lines, ("MainProcess", "consumer"), waits, strict=True):
        expected = rf"procession: {name} \d+ {wait}, for [\d.]+ m?s; nothing wrong was found"
        assert re.fullmatch(expected, line), line


LIMITED = """
import os, resource, sys, threading, time
import procession as mp

def leave(megabytes):
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (megabytes << 20), -1))

queue = mp.Queue()
"""


def test_a_look_for_which_the_address_space_has_no_room_is_refused():
    program = f"""{LIMITED}
mp.inspect()
leave(30)
try:
    mp.inspect()
except MemoryError as error:
    print(error)
output, errors, status = __import__("procession._core")._core._inspect_command(["ps", str(os.getpid())])
print(output == "", status, errors)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(len(mp.inspect().members))
"""
    outcome = run("-c", program)
    assert outcome.code == 0, outcome.err
    first, second, _empty, members = outcome.out.splitlines()
    reason = (
        r"a look needs \d+ MiB, and the limit on address space \(ulimit -v\) leaves \d+ MiB to this process: "
        r"run `procession why PID` from another one"
    )
    assert re.fullmatch(reason, first), first
    assert re.fullmatch(f"True 2 procession: {reason}", second), second
    assert members == "1"


def test_a_report_for_which_the_address_space_has_no_room_says_so():
    program = f"""{LIMITED}
mp.set_stall_report(0.3)
threading.Thread(target=queue.get, daemon=True).start()
leave(40)
time.sleep(1.5)
os._exit(0)
"""
    outcome = run("-c", program)
    assert outcome.code == 0, outcome.err
    assert re.fullmatch(r"procession: process \d+ waits for long; a look needs \d+ MiB, and .*\n", outcome.err), (
        outcome.err
    )


def test_a_thread_that_keeps_the_interpreter_lock_does_not_hinder_the_report():
    program = """
import ctypes, os, threading
import procession as mp
mp.set_stall_report(0.3)
queue = mp.Queue()
threading.Thread(target=queue.get, daemon=True).start()
ctypes.PyDLL(None).sleep(2)
os._exit(0)
"""
    outcome = run("-c", program)
    assert outcome.code == 0
    assert outcome.err.count("waits for a message of Queue") >= 1


WAITS = {
    "acquire": ("lock = mp.Lock(); lock.acquire()", "lock.acquire()", "waits for Lock"),
    "get": ("queue = mp.Queue()", "queue.get()", "waits for a message of Queue"),
    "put": ("queue = mp.Queue(1); queue.put(1)", "queue.put(2)", "waits for room in Queue"),
    "join of a queue": ("queue = mp.JoinableQueue(); queue.put(1)", "queue.join()", "until all messages of Queue"),
    "result": (
        "pool = mp.Pool(1); result = pool.apply_async(time.sleep, (60,))",
        "result.get()",
        "waits for the result",
    ),
    "join": (
        "child = mp.Process(target=time.sleep, args=(60,)); child.start()",
        "child.join()",
        "the end of Process-1",
    ),
}


@pytest.mark.parametrize("main", [True, False])
@pytest.mark.parametrize("wait", WAITS)
def test_each_long_wait_is_reported_once_by_the_thread_that_waits(wait, main):
    prepare, call, says = WAITS[wait]
    program = f"""
import os, sys, threading, time
import procession as mp
mp.set_stall_report(0.2)
{prepare}
waiting = threading.Thread(target=lambda: ({call}), daemon=True)
def end():
    time.sleep(3)
    for child in mp.active_children():
        child.kill()
    os._exit(0)
if {main}:
    threading.Thread(target=end, daemon=True).start()
    {call}
else:
    waiting.start()
    end()
"""
    outcome = run("-c", program)
    assert outcome.code == 0, outcome.err
    reports = [line for line in outcome.err.splitlines() if line.startswith("procession: MainProcess ")]
    assert len(reports) == 1 and says in reports[0], outcome.err


@pytest.mark.parametrize("call", ["map", "imap"])
def test_a_map_whose_results_keep_coming_is_not_reported_however_long_it_takes(call):
    program = f"""
import time
import procession as mp
mp.set_stall_report(2)
with mp.Pool(1) as pool:
    print(len(list(pool.{call}(time.sleep, [0.1] * 26, chunksize=1))))
"""
    outcome = run("-c", program)
    assert (outcome.out, outcome.err, outcome.code) == ("26\n", "", 0)


def test_a_report_needs_no_thread_so_a_fork_warns_of_none():
    program = """
import os, threading, warnings
import procession as mp
warnings.simplefilter("error")
mp.set_stall_report(0.1)
lock = mp.Lock()
assert lock.acquire() and not lock.acquire(timeout=0.5)
assert len(os.listdir("/proc/self/task")) == 1
child = os.fork()
if not child:
    lock.acquire(timeout=0.5)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    outcome = run("-c", program)
    assert outcome.code == 0, outcome.err
    # the parent and the child, which goes on with the setting
    assert outcome.err.count("waits for Lock") >= 2, outcome.err


def test_a_deadlock_is_explained_by_the_thread_that_is_in_it():
    program = """
import os, threading, time
import procession as mp
mp.set_stall_report(0.3)
first, second = mp.RLock(name="first"), mp.RLock(name="second")
barrier = threading.Barrier(2)
def crossed(one, other):
    with one:
        barrier.wait()
        with other:
            pass
for locks in ((first, second), (second, first)):
    threading.Thread(target=crossed, args=locks, daemon=True).start()
time.sleep(3)
os._exit(0)
"""
    outcome = run("-c", program)
    assert outcome.code == 0
    assert "DEADLOCK" in outcome.err, outcome.err
    assert outcome.err.count("procession: MainProcess ") == 2


def test_nothing_is_reported_unless_it_is_asked_for():
    outcome = run(SCENES / "stall.py", "fork", "no")
    assert (outcome.code, outcome.out, outcome.err) == (0, "ready\nwent on\n", "")


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_variable_that_is_no_number_is_named(value):
    outcome = run("-c", "import procession", PROCESSION_STALL=value)
    assert outcome.code == 0
    assert f"PROCESSION_STALL is '{value}', which is not a positive number of seconds" in outcome.err


def test_a_limit_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        mp.set_stall_report(0)
    mp.set_stall_report(None)
    assert "PROCESSION_STALL" not in os.environ
