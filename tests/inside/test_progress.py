"""`procession progress`: a line for each pool, and for each task that reports its progress."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from deadlines import PATIENCE
from scenes import command, report, scene

POOL = re.compile(r"loader: +37%\|.*\| 3/8 \[\d+:\d\d<.*, .*\]")
TASK = re.compile(r"  pages: +25%\|.*\| 2/8 \[\d+:\d\d\]")


def watch(pid, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "procession.inspect", "progress", str(pid), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_look_shows_the_pool_and_the_tasks_that_report(method, tmp_path):
    with scene("watched", method, str(tmp_path / "go")) as program:
        output, errors, status = command("progress", "--once", str(program.pid))
        assert (errors, status) == ("", 0)
        pool, *tasks = output.splitlines()
        assert POOL.fullmatch(pool), output
        assert len(tasks) == 2
        assert all(TASK.fullmatch(task) for task in tasks), output
        assert max(map(len, output.splitlines())) < 80


def test_it_goes_on_until_the_pool_has_ended_and_says_how(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        with watch(program.pid, "--interval", "0.05") as watching:
            assert watching.stdout is not None
            assert POOL.fullmatch(watching.stdout.readline().rstrip("\n"))
            (tmp_path / "go").touch()
            output, errors = watching.communicate(timeout=PATIENCE)
        assert (errors, watching.returncode) == ("", 0)
        last = [line for line in output.splitlines() if line.startswith("loader:")][-1]
        assert re.search(r"100%\|.*\| 8/8 \[", last), output


def test_it_ends_when_the_program_is_killed(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        with watch(program.pid, "--interval", "0.05") as watching:
            assert watching.stdout is not None
            watching.stdout.readline()
            for member in report(program.pid)["family"]["members"]:
                subprocess.run(["kill", "-KILL", str(member["pid"])], check=False)
            _, errors = watching.communicate(timeout=PATIENCE)
        assert (errors, watching.returncode) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(number, tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        with watch(program.pid, "--interval", "0.05") as watching:
            assert watching.stdout is not None
            watching.stdout.readline()
            watching.send_signal(number)
            _, errors = watching.communicate(timeout=PATIENCE)
        assert (errors, watching.returncode) == ("", 128 + number)


def test_what_a_task_reports_is_in_the_model(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        family = program.report()["family"]
        pool = next(thing for thing in family["objects"] if thing["kind"] == "Pool")
        tasks = [worker["task"] for worker in pool["workers"]]
        assert [task["progress"] for task in tasks] == 2 * [{"done": 2.0, "total": 8.0, "text": "pages"}]


def test_wrong_command_lines_are_told(tmp_path):
    for words in (["--interval", "0"], ["--interval"], ["--nonsense"], ["1", "2"], ["no-pid"]):
        output, errors, status = command("progress", *words)
        assert (output, status) == ("", 2)
        assert errors.startswith("procession: "), errors
