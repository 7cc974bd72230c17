"""`procession metrics`: numbers for Prometheus, read by Prometheus's own parser."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deadlines import PATIENCE, state, until
from scenes import command, scene


def parsed(text):
    """The samples of a text, by name: lists of labels and values."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(found, metric, /, **labels):
    values = [value for has, value in found[metric] if labels.items() <= has.items()]
    assert len(values) == 1, (metric, labels, found[metric])
    return values[0]


@pytest.fixture
def program(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program:
        yield program


def check(text, pid):
    found = parsed(text)
    mine = {"pid": str(pid), "program": "watched.py"}
    assert value(found, "procession_queue_depth", name="tasks", **mine) == 4
    assert value(found, "procession_queue_put_total", name="tasks", **mine) == 5
    assert value(found, "procession_queue_taken_total", name="tasks", **mine) == 1
    assert value(found, "procession_pool_tasks_total", name="loader", state="submitted", **mine) == 8
    assert value(found, "procession_pool_tasks_total", name="loader", state="returned", **mine) == 3
    assert value(found, "procession_pool_tasks_now", name="loader", state="running", **mine) == 2
    assert value(found, "procession_pool_tasks_now", name="loader", state="waiting", **mine) == 3
    assert value(found, "procession_pool_workers", name="loader", **mine) == 2
    assert value(found, "procession_lock_held", name="index", **mine) == 1
    assert value(found, "procession_lock_waits_total", name="index", **mine) == 0
    assert value(found, "procession_lock_wait_seconds_total", name="index", **mine) == 0
    assert value(found, "procession_members", state="alive", role="worker", **mine) == 2
    assert value(found, "procession_memory_bytes", **mine) > 0


def test_the_numbers_of_a_program_are_openmetrics(program):
    output, errors, status = command("metrics", str(program.pid))
    assert (errors, status) == ("", 0)
    assert output.endswith("# EOF\n")
    check(output, program.pid)


def test_without_a_pid_all_families_are_there(program):
    output, errors, status = command("metrics")
    assert (errors, status) == ("", 0)
    check(output, program.pid)


def test_names_of_the_program_are_escaped(context):
    trap = 'a"b\\c\nd\x1b[2J'
    queue = context.Queue(name=trap)
    queue.put(1)
    output, errors, status = command("metrics", str(os.getpid()))
    assert (errors, status) == ("", 0)
    assert "\x1b" not in output
    assert value(parsed(output), "procession_queue_depth", name='a"b\\c\\nd\\u{1b}[2J') == 1
    assert queue.get() == 1


@contextlib.contextmanager
def listening(*arguments):
    """Answers Prometheus until the end of the block; the value is the address."""
    words = [sys.executable, "-m", "procession.inspect", "metrics", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().strip()
            assert url.startswith("http://"), serving.communicate()
            yield url
        finally:
            serving.terminate()
            _, errors = serving.communicate(timeout=PATIENCE)
    assert (errors, serving.returncode) == ("", 0)


def scraped(url, **options):
    """The status, the type and the text of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=PATIENCE) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_prometheus_scrapes_an_address(program):
    with listening(str(program.pid), "--listen", "127.0.0.1:0") as url:
        assert url.startswith("http://127.0.0.1:")
        for _ in range(2):
            status, kind, text = scraped(url)
            assert status == 200
            assert kind.startswith("application/openmetrics-text; version=1.0.0")
            check(text, program.pid)
        assert scraped(url, method="HEAD") == (200, kind, "")
        assert scraped(url, headers={"Host": "example.org"})[0] == 403
        assert scraped(url, method="POST", data=b"")[0] == 405
        assert scraped(url + "/other")[0] == 404


@pytest.mark.skipif(not pathlib.Path("/proc/net/if_inet6").exists(), reason="NOT TESTED: this machine has no IPv6")
def test_an_address_of_ipv6_is_one_as_well(program):
    with listening(str(program.pid), "--listen", "[::1]:0") as url:
        assert url.startswith("http://[::1]:")
        check(scraped(url)[2], program.pid)


def test_clients_that_send_or_read_nothing_hold_no_other_up(program):
    with listening(str(program.pid), "--listen", "0") as url, contextlib.ExitStack() as clients:
        address = urllib.parse.urlsplit(url)
        assert address.hostname is not None
        for sent in 8 * (b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            client = clients.enter_context(socket.create_connection((address.hostname, address.port)))
            client.sendall(sent)
        began = time.monotonic()
        check(scraped(url)[2], program.pid)
        assert time.monotonic() - began < PATIENCE / 2


def test_a_program_that_has_ended_is_an_error_of_the_answer(tmp_path):
    with scene("watched", "fork", str(tmp_path / "go")) as program, listening(str(program.pid), "--listen", "0") as url:
        os.killpg(program.pid, signal.SIGKILL)
        until(lambda: state(program.pid) in "ZX")
        status, _, text = until(lambda: (answer := scraped(url)) and answer[0] != 200 and answer)
        assert (status, text.count("\n")) == (503, 1), text


def test_a_port_that_is_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output, errors, status = command("metrics", "--listen", f"127.0.0.1:{port}")
    assert (output, status) == ("", 2)
    assert errors == f"procession: 127.0.0.1:{port}: Address already in use (os error 98)\n"


def test_wrong_command_lines_are_told():
    for words in (["--listen"], ["--listen", "nonsense"], ["--once"], ["no-pid"], ["1", "2"]):
        output, errors, status = command("metrics", *words)
        assert (output, status) == ("", 2)
        assert errors.startswith("procession: "), errors
