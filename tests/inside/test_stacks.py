"""`procession stacks` shows the frames of all threads, with what each waits for; `why` shows where a thread waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import procession as mp
from deadlines import PATIENCE, asleep, state, until
from programs import write
from scenes import command, scene

BUILT_IN = "without" not in command("--version")[0]
built_in = pytest.mark.skipif(not BUILT_IN, reason="built without the feature `stacks`, which the wheel has")
by_program = pytest.mark.skipif(BUILT_IN, reason="built with the feature `stacks`: the program py-spy is not used")

# A py-spy that reads nothing: it tells of a stack that it was given.
PROGRAM = """\
    #!{python}
    import json, sys
    pid = int(sys.argv[sys.argv.index("--pid") + 1])
    assert sys.argv[1:4] == ["dump", "--nonblocking", "--json"]
    frames = [
        ("get", "/x/procession/queues.py", 1), ("_wait", "/x/procession/_queue/compat.py", 2),
        ("consume", "/home/scenes/producers_gone.py", 11), ("_bootstrap", "/x/procession/process.py", 3),
        ("main", "/home/scenes/producers_gone.py", 99),
    ]
    frames = [dict(name=name, filename=file, line=line, module=None) for name, file, line in frames]
    stack = dict(pid=pid, thread_id=1, thread_name="MainThread", os_thread_id=pid, active=False, frames=frames)
    print(json.dumps([stack]))
"""


def run(path, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "procession.inspect", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PATH": str(path)},
        check=False,
    )


def stacks(pid, *options):
    """The stacks of a family by the names of the processes."""
    output, errors, status = command("stacks", "--json", str(pid), *options)
    assert status == 0, errors
    return {one["name"]: one for one in json.loads(output)["stacks"]}


def functions(process):
    """The functions of the only thread of a process, the innermost first."""
    assert process["refused"] is None
    (stack,) = process["stacks"]
    return [frame["name"] for frame in stack["frames"]]


# --- by the program py-spy --------------------------------------------------------------------------------------------


@by_program
def test_frames_are_shown_without_our_own_and_without_those_before_the_fork(tmp_path):
    file = write(tmp_path / "py-spy", PROGRAM.format(python=sys.executable))
    file.chmod(0o755)
    with scene("producers_gone", "fork") as program:
        program.finding("lost")
        output = run(tmp_path, "stacks", program.pid).stdout
        consumer = program.member("consumer0")["pid"]
        assert f"consumer0 {consumer}  MainThread  waits for a message of Queue" in output
        assert "(procession)\n    consume " in output and "producers_gone.py:11" in output
        assert "producers_gone.py:99" not in output
        found = json.loads(run(tmp_path, "stacks", program.pid, "--json").stdout)
        assert {one["name"] for one in found["stacks"]} == {"MainProcess", "consumer0", "consumer1"}
        assert ", at producers_gone.py:11 consume\n" in run(tmp_path, "why", program.pid).stdout


@by_program
def test_without_py_spy_the_screen_says_what_is_missing(tmp_path):
    queue = mp.Queue()
    output = run(tmp_path, "stacks", os.getpid()).stdout
    assert "not seen: the program py-spy is not installed" in output
    del queue


# --- by this build ----------------------------------------------------------------------------------------------------


@built_in
def test_the_frames_of_all_processes_are_read(start_method):
    with scene("producers_gone", start_method) as program:
        program.finding("lost")
        found = stacks(program.pid)
        assert {"MainProcess", "consumer0", "consumer1"} <= set(found)
        assert "consume" in functions(found["consumer0"])
        output, _, status = command("stacks", str(program.pid))
        assert status == 0
        _, _, consumer = output.partition(f"consumer0 {found['consumer0']['pid']}  MainThread  waits for a message")
        frames = consumer.partition("\n\n")[0].splitlines()[1:]
        names = [frame.split()[0] for frame in frames]
        assert names in (["(procession)", "consume", "(procession)"], ["consume", "(procession)"])
        assert "producers_gone.py:" in consumer
        wanted = stacks(program.pid, str(found["consumer1"]["pid"]))
        assert set(wanted) == {"MainProcess", "consumer1"}


@built_in
def test_a_process_that_hangs_in_a_c_call_is_read(start_method):
    with scene("in_c", start_method) as program:
        pid = program.member("hung")["pid"]
        asleep(pid)
        found = stacks(program.pid)
        assert "hang" in functions(found["hung"])
        assert state(pid) == "S"


@built_in
def test_a_stopped_process_is_read_and_stays_stopped():
    with scene("in_c", "fork") as program:
        pid = program.member("hung")["pid"]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state(pid) == "T")
        assert "hang" in functions(stacks(program.pid)["hung"])
        assert state(pid) == "T"


@built_in
def test_why_shows_where_in_the_program_each_thread_waits(start_method):
    with scene("crossed_locks", start_method, "RLock", "2") as program:
        finding = program.finding("deadlock", lambda one: all(step["place"] for step in one["steps"]))
        for step in finding["steps"]:
            file, _, rest = step["place"].rpartition(":")
            assert file.endswith("scenes/crossed_locks.py") and rest.split()[1] == "hold"
        output = command("why", str(program.pid))[0]
        assert output.count(", at crossed_locks.py:") == 2


@built_in
def test_a_dump_has_the_stacks_and_the_places(tmp_path):
    path = str(tmp_path / "family.dump")
    with scene("crossed_locks", "fork", "RLock", "2") as program:
        program.finding("deadlock")
        assert command("dump", str(program.pid), "-o", path)[2] == 0
    found = stacks(path)
    assert "hold" in functions(found["p0"])
    assert set(stacks(path, str(found["p1"]["pid"]))) == {"p1"}
    assert command("why", path)[0].count(", at crossed_locks.py:") == 2


@built_in
def test_a_program_that_is_not_python_is_one_sentence(tmp_path):
    script = """
import os, sys, procession as mp
def sleep():
    os.execvp("sleep", ["sleep", "1000"])
def main():
    context = mp.get_context("fork")
    child = context.Process(target=sleep, name="sleeper")
    child.start()
    print("ready", flush=True)
    child.join()
main()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    children = []
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"

        def sleeper():
            found = [child for child in stacks(process.pid).values() if child["refused"]]
            return found[0] if found else None

        found = until(sleeper)
        children.append(found["pid"])
        assert found["stacks"] == []
        assert "\n" not in found["refused"]
        shown = command("stacks", str(process.pid))[0]
        assert f"sleeper {found['pid']}\n  not seen: {found['refused']}\n" in shown
        assert "main " in shown
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


@built_in
@pytest.mark.root
def test_the_missing_permission_is_named_and_the_rest_is_shown():
    program = (
        "import ctypes, json, os, procession as mp\n"
        "from procession import _core\n"
        "context = mp.get_context('fork')\n"
        "no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
        "assert ctypes.CDLL(None).capset(*no_capabilities) == 0\n"
        "def hide(ready, end):\n"
        "    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "    ready.set(); end.wait()\n"
        "ready, end = context.Event(), context.Event()\n"
        "child = context.Process(target=hide, args=(ready, end), name='hidden')\n"
        "child.start(); ready.wait()\n"
        "print(json.dumps(_core._inspect_command(['stacks', '--json', str(os.getpid())])))\n"
        "end.set(); child.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    output, errors, status = json.loads(done.stdout)
    assert status == 0, errors
    found = {one["name"]: one for one in json.loads(output)["stacks"]}
    assert found["hidden"]["refused"].startswith("it needs ")
    assert "CAP_SYS_PTRACE" in found["hidden"]["refused"]
    assert functions(found["MainProcess"])
