"""What an observer may do and see: it changes nothing, survives everything, and says what it may not see."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import procession as mp
from deadlines import PATIENCE, until
from scenes import command, report, scene

SCREENS = ("why", "ps", "locks", "queues", "pools", "mem")
SET_DUMPABLE = 4  # of prctl
NEW_PID_NAMESPACE = 0x20000000  # of unshare


def family_memory(pid):
    """The path of the family's memory among the descriptors of a process."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith("/memfd:procession"):
                return path
    raise AssertionError("no family memory")


def blocks(pid):
    return os.stat(family_memory(pid)).st_blocks


# --- it changes nothing -----------------------------------------------------------------------------------------------


def test_a_look_allocates_no_memory_of_the_family():
    with scene("join_before_get", "fork") as program:
        program.finding("deadlock")
        before = blocks(program.pid)
        for screen in SCREENS:
            assert command(screen, str(program.pid))[2] in (0, 1)
            assert command(screen, "--json", str(program.pid))[2] in (0, 1)
        assert blocks(program.pid) == before


def test_a_look_at_a_sparse_array_leaves_its_holes():
    array = mp.Array("d", 10_000_000, lock=False)
    gc.collect()  # what other tests have left, whose end would be seen as a change
    before = blocks(os.getpid())
    family = mp.inspect()
    assert any(object.kind == "Array" for object in family.objects)
    assert blocks(os.getpid()) == before
    del array


def test_an_observer_takes_no_seat_and_no_descriptor():
    queue = mp.Queue()
    seats = [member.seat for member in mp.inspect().members]
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert {member.seat for member in mp.inspect().members} <= set(seats)  # children of other tests may end
    assert len(os.listdir("/proc/self/fd")) == descriptors
    queue.put(1)
    assert queue.get() == 1


def test_an_observer_that_is_killed_leaves_nothing():
    with scene("churn", "fork", "60") as program:
        looking = "import sys\nfrom scenes import command\nwhile True: command('why', sys.argv[1])"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for _ in range(5):
            observer = subprocess.Popen([sys.executable, "-c", looking, str(program.pid)], env=environment)
            until(lambda pid=observer.pid: os.path.exists(f"/proc/{pid}"))
            time.sleep(random.uniform(0.1, 0.3))  # killed at any moment of a look
            observer.send_signal(signal.SIGKILL)
            observer.wait()
            members = program.report()["family"]["members"]
            assert observer.pid not in [member["own_pid"] for member in members]
        assert program.process.poll() is None


# --- it survives everything -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_looks_under_churn_and_kills_do_not_fail():
    with scene("churn", "fork", "60") as program:
        for number in range(1000):
            output, errors, status = command(SCREENS[number % len(SCREENS)], "--json", str(program.pid))
            assert status in (0, 1), errors
            family = json.loads(output)["family"]
            assert any(member["pid"] == program.pid for member in family["members"])
        assert program.process.poll() is None


def test_churn_is_no_deadlock():
    with scene("churn", "fork", "60") as program:
        for _ in range(100):
            kinds = [finding["kind"] for finding in program.report()["findings"]]
            assert not {"deadlock", "lost", "stopped"} & set(kinds)


# --- what it is not permitted to see ----------------------------------------------------------------------------------


def test_a_process_without_a_family_is_an_error():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    output, errors, status = command("why", str(child.pid))
    assert (output, status) == ("", 2)
    assert "belongs to no Procession family" in errors
    with pytest.raises(LookupError, match="no Procession family"):
        mp.inspect(child.pid)
    child.communicate()
    with pytest.raises(LookupError, match="there is no process"):
        mp.inspect(child.pid)


def close_family_memory(ready, end):
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:procession" in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))
    ready.set()
    end.wait()


def test_a_member_that_has_closed_the_descriptor_is_seen(context):
    ready, end = context.Event(), context.Event()
    child = context.Process(target=close_family_memory, args=(ready, end), name="closed")
    child.start()
    assert ready.wait(PATIENCE)
    family = mp.inspect(child.pid)
    assert "closed" in [member.name for member in family.members]
    end.set()
    child.join(PATIENCE)


def become_undumpable(ready, end):
    ctypes.CDLL(None).prctl(SET_DUMPABLE, 0, 0, 0, 0)
    ready.set()
    end.wait()


def as_nobody(pid):
    """What another user, who is no root, sees of a process: the output of `why`, the errors, the status."""
    program = (
        "import json, os, sys\n"
        "from procession import _core\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps(_core._inspect_command(['why', sys.argv[1]])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(pid)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.root
def test_another_user_is_told_which_permission_is_missing():
    with scene("join_before_get", "fork") as program:
        output, errors, status = as_nobody(program.pid)
        assert (output, status) == ("", 2)
        assert f"process {program.pid} cannot be looked at" in errors
        assert "its user (uid 0) or CAP_SYS_PTRACE" in errors


@pytest.mark.root
def test_an_undumpable_member_is_seen_through_another():
    program = (
        "import ctypes, json, os, weakref, procession as mp\n"  # the user 65534 may not read our Python
        "from procession import _core, popen_fork\n"
        "context = mp.get_context('fork')\n"
        "context.Process, context.Event\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "def hide(ready, end):\n"
        "    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "    ready.set(); end.wait()\n"
        "ready, end = context.Event(), context.Event()\n"
        "child = context.Process(target=hide, args=(ready, end), name='hidden')\n"
        "child.start(); ready.wait()\n"
        "print(json.dumps(_core._inspect_command(['why', '--json', str(child.pid)])))\n"
        "end.set(); child.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    output, errors, status = json.loads(done.stdout)
    assert status == 0, errors
    family = json.loads(output)["family"]
    assert "hidden" in [member["name"] for member in family["members"]]
    assert any("CAP_SYS_PTRACE" in one["needs"] for one in family["unseen"])


@pytest.mark.root
def test_a_family_in_another_pid_namespace_is_seen_from_outside():
    program = (
        "import ctypes, os, sys\n"
        f"assert ctypes.CDLL(None).unshare({NEW_PID_NAMESPACE}) == 0\n"
        "child = os.fork()\n"
        "if child:\n"
        "    os.waitpid(child, 0); sys.exit()\n"
        f"sys.argv = ['x', 'fork']; exec(open({str(scene_path('join_before_get'))!r}).read())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    inner = process.pid
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            inner = int(file.read().split()[0])
        found = until(lambda: [f for f in report(inner)["findings"] if f["kind"] == "deadlock"])
        assert inner in [member["pid"] for member in found[0]["members"]]
        members = report(inner)["family"]["members"]
        assert members[0]["own_pid"] == 1
    finally:
        # the first process of a PID namespace takes the others along
        os.kill(inner, signal.SIGKILL)
        process.communicate()


def scene_path(name):
    from scenes import SCENES

    return SCENES / f"{name}.py"


# --- the command line -------------------------------------------------------------------------------------------------


def test_all_families_are_listed():
    queue = mp.Queue()
    output, _, status = command("ps", "--all", "--json")
    assert status == 0
    pids = [member["pid"] for one in json.loads(output) for member in one["family"]["members"]]
    assert os.getpid() in pids
    del queue


def test_the_thread_that_looks_after_a_pool_is_not_what_the_program_does(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        output, _, _ = command("ps", str(program.pid))
        lines = output.splitlines()
        main = next(number for number, line in enumerate(lines) if " MainProcess " in line)
        assert "looks after" not in lines[main], output
        assert re.search(r'^ +thread \d+ +looks after the workers of Pool "loader" ', lines[main + 1]), output


def test_a_command_line_without_a_command_shows_the_help():
    output, errors, status = command()
    assert (output, status) == ("", 2)
    assert errors.startswith("usage: procession COMMAND")


WRONG = {
    "frobnicate 1": "there is no command frobnicate",
    "why": "`why` needs the PID",
    "why x": "x is no PID and no file",
    "why 1 2": "not also 2",
    "why --all 1": "`why` takes it or 1, not both",
    "why 1 --all": "`why` takes it or 1, not both",
    "why -z 1": "`why` has no option -z",
    "why --every 1": "`why` has no option --every (locks and mem have it)",
    "why -o file 1": "`why` has no option -o (dump, report and trace have it)",
    "ps --json=yes 1": "--json has no value",
    "stacks 1 x": "x is no PID",
    "serve 3006": "(--port 3006 chooses the port)",
    "serve x": "takes no argument x",
    "serve --all": "`serve` has no option --all",
    "serve --port 99999": "--port needs a number up to 65535, and not 99999",
    "report --json 1": "`report` has no option --json",
    "dump --json 1": "`dump` has no option --json",
    "dump --all": "`dump` has no option --all",
    "dump": "`dump` needs the PID",
    "dump -o --with-payloads 1": "-o needs a value: -o FILE",
    "trace --json 1": "`trace` has no option --json",
    "trace --seconds 0 1": "--seconds needs a number above 0, and not 0",
    "trace -o - 1": "-o needs the name of a file",
    "trace /dev/null": "it takes a PID, and no dump",
    "trace --port=1 1": "`trace` has no option --port (serve has it)",
    "top x": "x is no PID",
    "top --once": "`top` has no option --once",
    "progress /dev/null": "it takes a PID, and no dump",
    "metrics --interval 1": "`metrics` has no option --interval",
    "metrics --listen nonsense": "--listen needs an address with a port",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_command_refuses_what_it_does_not_have_in_one_line(line):
    output, errors, status = command(*line.split())
    assert (output, status) == ("", 2)
    name = line.split()[0]
    assert WRONG[line] in errors
    assert errors.count("\n") == 1
    assert errors.endswith(f": see `procession {'' if name == 'frobnicate' else name + ' '}--help`\n"), errors


def test_the_module_is_a_command():
    queue = mp.Queue()
    done = subprocess.run(
        [sys.executable, "-m", "procession.inspect", "ps", str(os.getpid())],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "MainProcess" in done.stdout
    del queue


def test_the_server_of_a_manager_says_its_name_and_where_it_was_started(context):
    with context.Manager(name="accounts") as manager:
        line = sys._getframe().f_lineno - 1
        shared = manager.dict(a=1)
        assert manager._process.name == "accounts"

        def row():
            output, _, _ = command("ps", str(os.getpid()))
            return next(text for text in output.splitlines() if str(manager._process.pid) in text)

        where = f"serves a manager, made at {os.path.basename(__file__)}:{line} "
        assert until(lambda: where in row()), row()
        assert " accounts " in row()
        output, _, _ = command("queues", str(os.getpid()))
        assert "accounts" in output
        assert shared["a"] == 1


def test_a_manager_without_a_name_is_shown_with_a_number(context):
    with context.Manager() as manager:
        output, _, _ = command("ps", str(os.getpid()))
        assert f"{manager._process.name}" in output and "SyncManager-" in output
