"""A dump answers the commands after the family is gone, and leaves the data of the program out."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

import procession as mp
from deadlines import PATIENCE
from scenes import command, scene

SECRET = b"what the program keeps to itself"


def test_a_dump_answers_after_the_family_has_ended(tmp_path):
    path = str(tmp_path / "family.dump")
    with scene("crossed_locks", "fork", "RLock", "2") as program:
        program.finding("deadlock", lambda finding: finding["proof"] == "certain")
        output, errors, status = command("dump", str(program.pid), "-o", path)
        assert status == 0, errors
        assert path in output
    for screen in ("ps", "locks", "queues", "pools", "mem"):
        output, errors, status = command(screen, path)
        assert status == 0, errors
        assert "p0" in output or screen in ("queues", "pools", "mem")
    output, errors, status = command("why", "--json", path)
    assert status == 1, errors
    (finding,) = json.loads(output)["findings"]
    assert (finding["kind"], finding["proof"]) == ("deadlock", "certain")
    assert {member["name"] for member in finding["members"]} == {"p0", "p1"}


@pytest.mark.parametrize("payloads", [False, True])
def test_the_data_of_the_program_is_in_a_dump_only_if_it_is_asked_for(tmp_path, payloads):
    path = tmp_path / "family.dump"
    queue = mp.Queue()
    queue.put(SECRET)
    queue.put([SECRET] * 10_000)
    array = mp.Array("c", SECRET, lock=False)
    kept = mp.SharedDict({"key": SECRET})
    freed = mp.Queue()
    freed.put(SECRET)
    del freed
    options = ["--with-payloads"] if payloads else []
    _output, errors, status = command("dump", str(os.getpid()), "-o", str(path), *options)
    assert status == 0, errors
    assert (SECRET in path.read_bytes()) == payloads
    assert array.value == kept["key"] == SECRET


def test_only_its_user_may_read_a_dump_and_it_replaces_no_file(tmp_path):
    path = tmp_path / "family.dump"
    queue = mp.Queue()
    assert command("dump", str(os.getpid()), "-o", str(path))[2] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    output, errors, status = command("dump", str(os.getpid()), "-o", str(path))
    assert (output, status) == ("", 2)
    assert errors == f"procession: {path} exists already, and `dump` overwrites no file (-o names another)\n"
    del queue


def test_a_dump_without_a_name_is_called_after_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queue = mp.Queue(name="here")
    assert command("dump", str(os.getpid()))[2] == 0
    assert "here" in command("queues", f"procession-{os.getpid()}.dump")[0]
    del queue


def test_a_dump_can_be_read_from_standard_input(tmp_path):
    path = tmp_path / "family.dump"
    queue = mp.Queue(name="here")
    assert command("dump", str(os.getpid()), "-o", str(path))[2] == 0
    words = [sys.executable, "-m", "procession.inspect", "queues", "-"]
    with open(path, "rb") as file:
        done = subprocess.run(words, stdin=file, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "here" in done.stdout
    done = subprocess.run(words, input="text", capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (2, "procession: standard input is no dump of a family\n")
    del queue


def test_another_file_is_said_to_be_no_dump(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("print()")
    assert command("why", str(path)) == ("", f"procession: {path} is no dump of a family\n", 2)


def test_stacks_of_a_process_of_another_family_are_refused():
    queue = mp.Queue()
    output, errors, status = command("stacks", str(os.getpid()), "1")
    assert (output, errors, status) == ("", "procession: process 1 is no member of this family\n", 2)
    del queue


def test_a_dump_can_be_written_to_a_pipe(tmp_path):
    path = tmp_path / "family.dump"
    queue = mp.Queue(name="here")
    words = [sys.executable, "-m", "procession.inspect", "dump", str(os.getpid()), "-o", "-"]
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    path.write_bytes(done.stdout)
    output, errors, status = command("queues", str(path))
    assert status == 0, errors
    assert "here" in output
    del queue


def test_a_dump_whose_reader_has_gone_is_an_error(tmp_path):
    queue = mp.Queue()
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "procession.inspect", "dump", str(os.getpid()), "-o", "-"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr == "procession: standard output: Broken pipe (os error 32)\n"
    del queue


def test_a_dump_is_not_written_to_a_terminal():
    queue = mp.Queue()
    controller, terminal = os.openpty()
    words = [sys.executable, "-m", "procession.inspect", "dump", str(os.getpid()), "-o", "-"]
    done = subprocess.run(words, stdout=terminal, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 2
    assert "a dump is no text for a terminal" in done.stderr
    del queue


def test_only_a_regular_file_is_a_dump(tmp_path):
    pipe, folder, listener = tmp_path / "pipe", tmp_path / "folder", tmp_path / "socket"
    os.mkfifo(pipe)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(listener))
        cases = {pipe: "a pipe (FIFO)", folder: "a directory", listener: "a socket", "/dev/null": "a device"}
        for path, kind in cases.items():
            output, errors, status = command("why", str(path))
            assert (output, status) == ("", 2)
            assert errors == f"procession: {path} is {kind}, and no dump: a dump is a regular file\n"
            output, errors, status = command("dump", str(os.getpid()), "-o", str(path))
            assert (output, status) == ("", 2)


def test_a_file_that_is_no_dump_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"something else")
    output, errors, status = command("why", str(path))
    assert (output, status) == ("", 2)
    assert "no dump of a family" in errors
