"""`procession progress`: a line for each pool, and for each task that reports its progress."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from deadlines import PATIENCE, until
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


ENDED = re.compile(
    r"loader: +(100%\|.*\| 20/20 \[00:0\d, [1-9][\d.]*/s, ended\]|"
    r"83%\|.*\| 20/24 \[00:0\d, [1-9][\d.]*/s, ended, left undone 4\])"
)


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_pool_that_the_program_keeps_is_shown_as_ended_with_its_rate(how):
    with scene("ended_pool", "fork", how) as program:
        rates = set()
        for _ in range(2):
            with watch(program.pid, "--interval", "0.05") as watching:
                output, errors = watching.communicate(timeout=PATIENCE)
            assert (errors, watching.returncode) == ("", 0)
            assert ENDED.fullmatch(output.rstrip("\n")), output
            rates.add(output)
        assert len(rates) == 1, "the rate of an ended pool stays"
        output, _, _ = command("progress", "--once", str(program.pid))
        assert {output.split("|")[-1]} == {text.split("|")[-1] for text in rates}
        output, _, _ = command("pools", str(program.pid))
        assert re.search(r"^Pool .*, ended$", output, re.M), output
        assert "restarted" not in output
        output, _, _ = command("metrics", str(program.pid))
        assert re.search(r'^procession_pool_worker_restarts_total\{.*name="loader".*\} 0.0$', output, re.M), output


def test_the_line_of_an_ended_pool_is_written_once_while_another_pool_goes_on():
    with scene("ended_pool", "fork", "other") as program:
        with watch(program.pid, "--interval", "0.05") as watching:
            assert watching.stdout is not None
            lines = [watching.stdout.readline() for _ in range(4)]
            watching.send_signal(signal.SIGINT)
            watching.communicate(timeout=PATIENCE)
        assert watching.returncode == 0
        assert ENDED.fullmatch(lines[0].rstrip("\n")), lines
        assert all(line.startswith("other: 0/0 [") for line in lines[1:]), lines


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_without_a_pool_is_told_to_have_none(method):
    with scene("lock_and_join", method) as program, watch(program.pid, "--interval", "0.05") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "no pool yet: this waits for one, and Ctrl-C ends it\n"
        watching.send_signal(signal.SIGINT)
        output, errors = watching.communicate(timeout=PATIENCE)
    assert (output, errors, watching.returncode) == ("", "", 0)


@pytest.mark.parametrize("columns", [48, 60, 80, 120])
def test_the_rate_is_shown_in_a_terminal_of_any_width(columns, tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        done = subprocess.run(
            [sys.executable, "-m", "procession.inspect", "progress", "--once", str(program.pid)],
            env={**os.environ, "COLUMNS": str(columns)},
            capture_output=True,
            text=True,
            check=True,
        )
        pool, *_ = done.stdout.splitlines()
        assert re.search(r"3/8 \[\d+:\d\d<.*(/s|/task)\]$", pool), pool
        assert len(pool) < columns


@pytest.mark.parametrize("call", ["map", "imap"])
def test_a_wait_for_results_is_as_old_as_the_call_and_not_as_the_last_result(call):
    with scene("steady_results", call) as program:

        def wait():
            member = program.member("MainProcess")
            waits = [thread["wait"] for thread in member["threads"] if thread["wait"]]
            return next((wait for wait in waits if wait["what"] == "result"), None)

        until(lambda: (now := wait()) and now["seconds"] > 1.0)


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
        assert (errors, watching.returncode) == ("", 0)


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
        assert errors.startswith("procession: ") and errors.count("\n") == 1, errors
        assert errors.endswith(": see `procession progress --help`\n"), errors
