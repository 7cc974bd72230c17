"""Log records and output of single processes: `Process(logs=, output=)`."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading

import pytest

import procession as mp
from deadlines import PATIENCE, until
from programs import run

METHODS = multiprocessing.get_all_start_methods()


def talk(count):
    log = logging.getLogger("of.the.child")
    for n in range(count):
        print("line", n)
        log.info("record %d", n)
        log.debug("not wanted")
    os.write(2, b"of C code\nwithout an end")


def talk_and_die():
    talk(3)
    os.kill(os.getpid(), signal.SIGKILL)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def fail():
    raise ValueError("the reason")


def write_for_ever(path):
    while True:
        print("x" * 1000)
        with open(path, "w") as file:
            file.write("!")


class Handler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def handler():
    found = Handler()
    log = logging.getLogger("of.the")
    log.addHandler(found)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(found)
    log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", [talk, talk_and_die])
def test_all_that_a_process_says_has_arrived_when_it_is_joined(method, target, handler):
    lines = []
    arguments = (3,) if target is talk else ()
    process = mp.get_context(method).Process(
        target=target, args=arguments, name="Talker", logs=True, output=lambda *what: lines.append(what)
    )
    process.start()
    process.join(PATIENCE)
    assert [line for line, source in lines if source.stream == "stdout"] == ["line 0", "line 1", "line 2"]
    assert [line for line, source in lines if source.stream == "stderr"] == ["of C code", "without an end"]
    assert {(source.name, source.pid) for _, source in lines} == {("Talker", process.pid)}
    assert [record.getMessage() for record in handler.records] == ["record 0", "record 1", "record 2"]
    assert {(record.process, record.processName) for record in handler.records} == {(process.pid, "Talker")}


@pytest.mark.parametrize("method", METHODS)
def test_forwarded_lines_have_the_name_of_their_process(method, capfd):
    processes = [
        mp.get_context(method).Process(target=talk, args=(2,), name=name, output="forward") for name in ("A", "B")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["[A] line 0", "[A] line 1", "[B] line 0", "[B] line 1"]
    assert "[A] of C code" in err


def test_a_traceback_is_output_as_well():
    lines = []
    process = mp.Process(target=fail, output=lambda line, source: lines.append(line))
    process.start()
    process.join(PATIENCE)
    assert "ValueError: the reason" in lines
    assert isinstance(process.exception, ValueError)


def test_threads_and_descriptors_go_with_the_process():
    def one():
        process = mp.get_context("fork").Process(target=talk, args=(1,), logs=True, output=lambda *what: None)
        process.start()
        until(lambda: not process.is_alive())
        process.close()

    one()
    threads, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        one()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) <= fds


def test_a_start_that_fails_leaves_nothing():
    fds = len(os.listdir("/proc/self/fd"))
    process = mp.get_context("spawn").Process(target=lambda: None, args=(threading.Lock(),), output=print)
    for _ in range(2):
        with pytest.raises(TypeError):
            process.start()
    assert len(os.listdir("/proc/self/fd")) <= fds + 1


def test_a_process_whose_parent_was_killed_does_not_wait_for_a_reader(tmp_path):
    path = tmp_path / "written"
    parent = mp.get_context("fork").Process(target=start_and_die, args=(path,))
    parent.start()
    parent.join(PATIENCE)
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not is_alive(pid))


def start_and_die(path):
    process = mp.get_context("fork").Process(target=write_for_ever, args=(path,), output=lambda *what: None)
    process.start()
    (path.parent / "pid").write_text(str(process.pid))
    until(path.exists)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("output", "error"), [("other", ValueError), (3, TypeError)])
def test_what_is_no_way_of_output_is_refused(output, error):
    with pytest.raises(error, match='output must be "forward" or a callable'):
        mp.Process(target=print, output=output)


def test_the_end_of_a_program_shows_everything(tmp_path):
    program = (
        "import procession as mp\n"
        "def work():\n    print('said')\n"
        "if __name__ == '__main__':\n    mp.Process(target=work, name='W', output='forward').start()\n"
    )
    path = tmp_path / "program.py"
    path.write_text(program)
    assert run(path).well() == "[W] said\n"
