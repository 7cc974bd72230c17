"""What the commands print: texts, also in a locale without their characters, and with names that trick a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE
from scenes import command, scene

SCREENS = ("why", "ps", "locks", "queues", "pools", "mem", "stacks")
COMMANDS = (*SCREENS, "dump", "report", "trace", "serve", "top", "progress", "metrics")
TRAP = "a\u202eb\u2066\u200f\u061c\x1b[2J\r\nDEADLOCK\x7f\x9b"


def tricks(text):
    """The characters of a text that move the cursor, change the terminal, or change the direction of text."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n"}


# --- names ------------------------------------------------------------------------------------------------------------


def hold(lock, held, end):
    with lock:
        held.set()
        end.wait()


def test_names_cannot_change_what_the_terminal_shows(context):
    lock, held, end = context.Lock(name=TRAP), context.Event(), context.Event()
    queue = context.Queue(name=TRAP)
    child = context.Process(target=hold, args=(lock, held, end), name=TRAP)
    child.start()
    assert held.wait(PATIENCE)
    escaped = "a\\u{202e}b\\u{2066}\\u{200f}\\u{61c}\\u{1b}[2J\\r\\nDEADLOCK\\u{7f}\\u{9b}"
    seen = ""
    for screen in SCREENS:
        output, errors, status = command(screen, str(child.pid))
        assert status == 0, errors
        assert not tricks(output), screen
        assert not any(line.startswith("DEADLOCK") for line in output.splitlines())
        seen += output
    assert seen.count(escaped) >= 3
    output, errors, status = command("ps", "--json", str(child.pid))
    assert status == 0, errors
    assert not tricks(output)
    family = json.loads(output)["family"]
    assert TRAP in [member["name"] for member in family["members"]]
    assert {TRAP} <= {thing["name"] for thing in family["objects"] if thing["kind"] in ("Lock", "Queue")}
    assert TRAP in [member.name for member in mp.inspect(child.pid).members]
    end.set()
    child.join(PATIENCE)
    del queue


def test_an_error_shows_the_characters_of_a_path_as_escapes(tmp_path):
    path = tmp_path / "a\u202eb\n"
    path.write_bytes(b"something else")
    os.mkfifo(tmp_path / "pipe\u202e")
    for name in (path.name, "pipe\u202e"):
        output, errors, status = command("why", str(tmp_path / name))
        assert (output, status) == ("", 2)
        assert not tricks(errors)
        assert errors.count("\n") == 1


# --- texts ------------------------------------------------------------------------------------------------------------

WHY = r"""family of \d+ \(crossed_locks\.py, [\d.]+ m?s old\): 3 processes, 1 problem

DEADLOCK  2 processes wait for each other
  p(\d) \d+  holds RLock "lock\1" and waits for RLock "lock\d", for [\d.]+ m?s(, at crossed_locks\.py:\d+ hold)?
  p(\d) \d+  holds RLock "lock\3" and waits for RLock "lock\d", for [\d.]+ m?s(, at crossed_locks\.py:\d+ hold)?
  RLock "lock\d" was made at crossed_locks\.py:\d+ main\S*
  RLock "lock\d" was made at crossed_locks\.py:\d+ main\S*
  no other thread can release these locks
  behind them: MainProcess \d+ \(waits for the end of p0 \d+\)
  → acquire these locks in the same order everywhere
  → `procession stacks \d+ \d+` shows where they are

"""


def settled(program):
    """Waits until the deadlock of the scene is found with the process behind it."""
    program.finding("deadlock", lambda one: any("behind them: MainProcess" in text for text in one["details"]))


def test_why_tells_a_deadlock_in_sentences():
    with scene("crossed_locks", "fork", "RLock", "2") as program:
        settled(program)
        output, errors, status = command("why", str(program.pid))
        assert (errors, status) == ("", 1)
        assert re.fullmatch(WHY, output), output
        assert re.fullmatch(WHY, str(mp.inspect(program.pid)))


# By itself Python writes UTF-8 in the locale C.
ASCII_ALONE = {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


def in_ascii(*arguments, more=ASCII_ALONE):
    environment = {**os.environ, "LC_ALL": "C", **more}
    done = subprocess.run(
        [sys.executable, "-m", "procession.inspect", *arguments],
        capture_output=True,
        timeout=PATIENCE,
        env=environment,
        check=False,
    )
    assert done.stderr == b""
    return done.stdout.decode("ascii"), done.returncode


@pytest.mark.parametrize("more", [ASCII_ALONE, {}], ids=["python-too", "locale"])
def test_the_screens_are_readable_in_a_locale_that_has_only_ascii(more):
    with scene("crossed_locks", "fork", "RLock", "2") as program:
        settled(program)
        output, status = in_ascii("why", str(program.pid), more=more)
        assert status == 1
        assert "DEADLOCK  2 processes wait for each other\n" in output
        assert "\n  -> acquire these locks in the same order everywhere\n" in output
        output, status = in_ascii("ps", str(program.pid), more=more)
        assert status == 0
        rows = [line.split()[1] for line in output.splitlines() if "waits for RLock" in line]
        assert rows == ["|-p0", "`-p1"]
        output, status = in_ascii("locks", str(program.pid), more=more)
        assert status == 0
        assert " >=" in output


def test_a_name_that_the_locale_has_not_is_escaped():
    lock = mp.Lock(name="Türschloß")
    lock.acquire()
    output, status = in_ascii("locks", str(os.getpid()))
    assert status == 0
    assert "T\\u{fc}rschlo\\u{df}" in output
    lock.release()


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, option):
    output, errors, status = command(name, option)
    assert (errors, status) == ("", 0)
    assert output.startswith(f"usage: procession {name}")
    assert re.search(rf"^  {name} ", output, re.MULTILINE)
    assert output.count("\n") < 24
    assert command("help", name) == (output, "", 0)
    words = re.findall(r"\B--?[a-z-]+", output)
    assert ("--json" in words) == (name in SCREENS)


def test_the_help_names_every_command_and_the_page_of_the_docs_does():
    output, errors, status = command("--help")
    assert (errors, status) == ("", 0)
    names = re.findall(r"^  ([a-z]+) ", output, re.MULTILINE)
    assert sorted(names) == sorted(COMMANDS)
    page = (Path(__file__).parents[2] / "docs" / "inside.md").read_text()
    assert [name for name in names if f"| `procession {name}` |" not in page] == []
    assert "--cluster" in command("why", "--help")[0]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", ">/dev/full", "2>/dev/full"])
@pytest.mark.parametrize("words", ["ps PID", "why 0"])
def test_streams_that_are_closed_or_full_give_no_traceback(words, closed):
    lock = mp.Lock()
    words = words.replace("PID", str(os.getpid()))
    line = f"exec {sys.executable} -m procession.inspect {words} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=False)
    cannot_write = closed.startswith(">") and words.startswith("ps")
    assert done.returncode == (2 if cannot_write or words == "why 0" else 0), done.stderr
    assert "Traceback" not in done.stderr
    if cannot_write and "2>" not in closed:
        assert done.stderr.startswith("procession: writing the output: ")
    del lock
