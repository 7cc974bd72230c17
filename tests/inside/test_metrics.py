"""`procession metrics`: numbers for Prometheus, read by Prometheus's own parser."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from deadlines import PATIENCE
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


def test_prometheus_scrapes_an_address(program):
    words = [sys.executable, "-m", "procession.inspect", "metrics", str(program.pid), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            url = serving.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            for _ in range(2):
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
                    check(answer.read().decode(), program.pid)
            foreign = urllib.request.Request(url, headers={"Host": "example.org"})
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(foreign, timeout=PATIENCE)
        finally:
            serving.terminate()
            _, errors = serving.communicate(timeout=PATIENCE)
    assert (errors, serving.returncode) == ("", 143)


def test_wrong_command_lines_are_told():
    for words in (["--listen"], ["--listen", "nonsense"], ["--once"], ["no-pid"], ["1", "2"]):
        output, errors, status = command("metrics", *words)
        assert (output, status) == ("", 2)
        assert errors.startswith("procession: "), errors
