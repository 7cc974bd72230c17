"""`procession top` in a terminal of 80 by 24 characters, as its user sees it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pyte
import pytest

from deadlines import PATIENCE, until
from scenes import command, report, scene

COLOUR = re.compile(rb"\x1b\[[34]8;5;\d+")


class Terminal:
    """A program in a terminal."""

    def __init__(self, words, size=(24, 80), shell=None, **environment):
        self.screen = pyte.Screen(size[1], size[0])
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, size)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, *([shell] if shell else []), "-m", "procession.inspect", *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={"TERM": "xterm-256color", **{k: v for k, v in os.environ.items() if k not in ("TERM", "NO_COLOR")}}
            | environment,
        )

    def read(self):
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                return
            self.raw += piece
            self.stream.feed(piece)

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def shows(self, *texts):
        """Waits until all texts are on the screen."""
        end = time.monotonic() + PATIENCE
        while not all(text in self.text for text in texts):
            assert time.monotonic() < end, f"{texts} not in\n{self.text}"
            self.read()
        return self.text

    def lacks(self, text):
        end = time.monotonic() + PATIENCE
        while text in self.text:
            assert time.monotonic() < end, f"{text} in\n{self.text}"
            self.read()

    def press(self, keys):
        os.write(self.master, keys.encode())

    def ends(self):
        """Waits until the program has ended and has given the terminal back; returns its exit status."""

        def ended():
            self.read()
            return self.process.poll() is not None

        until(ended)
        self.read()
        return self.process.returncode

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def top(*words, size=(24, 80), **environment):
    terminal = Terminal(["top", *map(str, words)], size, **environment)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def program(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        yield program


def test_it_shows_the_pool_with_its_workers_and_the_queue_and_the_lock(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        text = terminal.shows('pool "loader"', "ForkPoolWorker-2", "? help")
        lines = text.splitlines()
        assert len(lines) == 24
        assert re.match(rf" watched.py {program.pid}  3 processes  CPU \d+ %  memory .*\d\d:\d\d:\d\d", lines[0])
        assert re.match(r'pool "loader"  done 3  .*running 2.*2  waiting 3', lines[1])
        assert lines[2].rstrip().endswith("37 %")
        for number, line in enumerate(lines[3:5]):
            assert re.match(rf"  {number} +[\d.]+ m?s 2/8 pages load #[34] +\|.*\|", line), line
        assert re.search(r'^"tasks" +4/100 ', text, re.M)
        assert re.search(rf'^Lock "index" .* MainProcess {program.pid}$', text, re.M)
        assert re.search(rf"^ +{program.pid} MainProcess +\w ", text, re.M)


def test_keys_change_the_view_and_open_details(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        terminal.press("?")
        terminal.shows(" help ", "quit")
        terminal.press("\x1b")
        terminal.lacks(" help ")
        terminal.press("5")
        terminal.lacks("pool ")
        terminal.press("/forkpool\r")
        terminal.lacks("MainProcess")
        terminal.press("1p")
        terminal.press("jj\r")
        terminal.shows("PAUSED", "reports   2/8  pages")
        terminal.press("q")  # closes the details
        terminal.lacks("reports ")
        terminal.press("q")
        assert terminal.ends() == 0


@pytest.mark.parametrize("how", ["q", "ctrl-c", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_terminal_is_given_back_however_it_ends(program, how):
    with top(program.pid) as terminal:
        terminal.shows('pool "loader"')
        assert termios.tcgetattr(terminal.slave) != terminal.before
        if isinstance(how, str):
            terminal.press({"q": "q", "ctrl-c": "\x03"}[how])
        else:
            terminal.process.send_signal(how)
        assert terminal.ends() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
        assert b"\x1b[?1049h" in terminal.raw
        assert b"\x1b[?1049l" in terminal.raw[-30:]
        assert b"\x1b[?25h" in terminal.raw[-30:]
        assert b"Traceback" not in terminal.raw


SHELL = """
import fcntl, os, signal, sys, termios

def foreground(group):
    os.tcsetpgrp(0, group)

signal.signal(signal.SIGTTOU, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
before = termios.tcgetattr(0)
top = os.fork()
if top == 0:
    os.setpgid(0, 0)
    foreground(os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
assert os.WIFSTOPPED(os.waitpid(top, os.WUNTRACED)[1])
foreground(os.getpgrp())
print("the shell has it:", termios.tcgetattr(0) == before, flush=True)
input()
foreground(top)
os.kill(top, signal.SIGCONT)
status = os.waitpid(top, 0)[1]
foreground(os.getpgrp())
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("how", ["ctrl-z", "SIGTSTP"])
def test_a_shell_that_stops_it_gets_the_terminal_until_it_goes_on(program, how, tmp_path):
    (tmp_path / "shell.py").write_text(SHELL)
    terminal = Terminal(["top", str(program.pid)], shell=str(tmp_path / "shell.py"))
    try:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        if how == "ctrl-z":
            terminal.press("\x1a")
        else:
            with open(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children") as file:
                os.kill(int(file.read()), signal.SIGTSTP)
        # pyte has one screen only, so the text of the shell stands somewhere on that of the view.
        until(lambda: terminal.read() or b"the shell has it: " in terminal.raw)
        shown = terminal.raw[terminal.raw.rindex(b"\x1b[?1049l") :]
        assert b"\x1b[?25h" in shown and b"the shell has it: True" in shown
        terminal.screen.reset()
        terminal.press("\n")
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        terminal.press("q")
        assert terminal.ends() == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_it_ends_when_its_terminal_has_gone_without_a_signal(program):
    terminal = Terminal(["top", str(program.pid)])
    try:
        terminal.shows('pool "loader"')
        os.close(terminal.master)
        os.close(terminal.slave)
        until(lambda: terminal.process.poll() is not None)
    finally:
        terminal.process.kill()
        terminal.process.wait()


def test_no_key_stops_it_where_no_shell_could_let_it_go_on(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        terminal.press("\x1a?")
        terminal.shows(" help ")


def test_it_stays_when_the_program_has_ended(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows("ForkPoolWorker-2")
        for member in report(program.pid)["family"]["members"]:
            with contextlib.suppress(ProcessLookupError):  # it ends with its parent
                os.kill(member["pid"], signal.SIGKILL)
        terminal.shows("the program has ended", 'pool "loader"', "q quits")
        assert terminal.process.poll() is None
        terminal.press("q")
        assert terminal.ends() == 0


def test_it_draws_anew_when_the_terminal_gets_another_size(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows('pool "loader"')
        terminal.screen.resize(40, 120)
        termios.tcsetwinsize(terminal.slave, (40, 120))
        terminal.process.send_signal(signal.SIGWINCH)
        until(lambda: terminal.read() or terminal.screen.display[39].startswith("q quit"))
        assert terminal.screen.display[0].rstrip()[-9:-6].strip().isdigit()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"TERM": "vt220"}, False)],
)
def test_colours_are_used_only_where_they_are_wanted(program, environment, coloured):
    with top(program.pid, "--interval", "0.1", **environment) as terminal:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        assert bool(COLOUR.search(terminal.raw)) == coloured


@pytest.mark.parametrize("locale", ["en_US.ISO-8859-1", "C", "POSIX"])
def test_a_locale_without_the_characters_gets_plain_ones(program, locale):
    with top(program.pid, "--interval", "0.1", LC_ALL=locale) as terminal:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        assert terminal.text.isascii()


@pytest.mark.parametrize("columns", [60, 90, 100, 110])
def test_the_details_of_a_process_have_its_memory_and_all_of_what_it_does(program, columns):
    with top(program.pid, "--interval", "0.1", size=(24, columns)) as terminal:
        terminal.shows('pool "loader"', "ForkPoolWorker-2")
        terminal.press("5jj\r")
        text = terminal.shows("MEMORY", "SINCE", "DOES")
        assert re.search(r"MEMORY +[\d.]+ [KM] ", text), text
        assert "waits until Event" in text, text


def test_without_a_pid_it_shows_the_only_family_or_a_list(program):
    with top(size=(200, 100)) as terminal:
        until(lambda: terminal.read() or "Which program?" in terminal.text or 'pool "loader"' in terminal.text)
        if "Which program?" in terminal.text:
            terminal.shows(f"family of {program.pid} (watched.py")
        terminal.press("q")
        assert terminal.ends() == 0


def test_warnings_come_as_they_are_found(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows("ForkPoolWorker-2")
        assert "STOPPED" not in terminal.text
        family = report(program.pid)["family"]
        worker = next(member["pid"] for member in family["members"] if member["role"] == "worker")
        os.kill(worker, signal.SIGSTOP)
        terminal.shows("STOPPED", f"{worker} is stopped")
        os.kill(worker, signal.SIGCONT)
        terminal.lacks("STOPPED")


def test_a_report_is_written_into_the_folder(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows("ForkPoolWorker-2")
        terminal.press("w")
        terminal.shows(f"procession-{program.pid}.html is written")
        assert "loader" in (tmp_path / f"procession-{program.pid}.html").read_text()
        terminal.press("w")
        terminal.shows("overwrites no file")


def test_stacks_of_the_selected_row_are_shown(program):
    with top(program.pid, "--interval", "0.1") as terminal:
        terminal.shows("ForkPoolWorker-2")
        terminal.press("5j")
        terminal.press("s")
        terminal.shows(f" stacks of {program.pid} ", f"MainProcess {program.pid}")


def test_without_a_terminal_it_says_what_to_use():
    output, errors, status = command("top", str(os.getpid()))
    assert (output, status) == ("", 2)
    assert errors == (
        "procession: `top` needs a terminal: `procession progress` and `procession pools` print without one\n"
    )
