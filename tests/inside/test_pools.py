"""Hangs through a pool: a task waits for what the caller has, and the caller waits for results."""

from __future__ import annotations

import pytest

from deadlines import until
from scenes import scene


def waits(program, name, what):
    """Waits until a thread of the member of that name has waited for half a second."""

    def long_enough():
        threads = [thread["wait"] for thread in program.member(name)["threads"] if thread["wait"]]
        return any(wait["what"] == what and wait["seconds"] > 0.5 for wait in threads)

    until(long_enough)


def certain(program):
    return program.finding("deadlock", lambda finding: finding["proof"] == "certain")


def kinds(finding):
    return {step["what"] for step in finding["steps"]}


CALLS = ["map", "options", "imap", "apply", "callback", "future", "executor", "join"]


@pytest.mark.parametrize("call", CALLS)
def test_a_task_that_waits_for_a_lock_of_its_caller_is_a_deadlock(call):
    with scene("through_pool", "fork", "lock", call) as program:
        finding = certain(program)
        assert kinds(finding) == {"acquire", "result"}
        caller = next(step for step in finding["steps"] if step["what"] == "result")
        assert caller["who"]["name"] == "MainProcess"
        assert [lock["name"] for lock in caller["holds"]] == ["lock"]
        assert finding["advice"][0] == 'release Lock "lock" before waiting for results'
        assert any("runs __main__.work" in text for text in finding["details"])


def test_a_task_that_waits_for_a_lock_of_its_caller_is_found_under_each_start_method(start_method):
    with scene("through_pool", start_method, "lock", "map") as program:
        finding = program.finding("deadlock")
        assert kinds(finding) == {"acquire", "result"}


@pytest.mark.parametrize("call", ["map", "future"])
def test_a_task_whose_put_waits_for_room_that_its_caller_would_make_is_a_deadlock(call):
    with scene("through_pool", "fork", "room", call) as program:
        finding = certain(program)
        assert kinds(finding) == {"room", "result"}
        assert 'nobody is left who takes a message out of Queue "results"' in finding["details"]
        assert 'take messages out of Queue "results" while the tasks run' in finding["advice"]


@pytest.mark.parametrize("call", ["map", "apply"])
def test_tasks_that_wait_for_a_task_for_which_no_worker_is_left_are_a_deadlock(call):
    with scene("through_pool", "fork", "task", call) as program:
        finding = certain(program)
        assert kinds(finding) == {"set", "result"}
        assert any(
            text == '1 task of Pool "pool" waits for a worker, and all 2 workers have a task'
            for text in finding["details"]
        )


@pytest.mark.parametrize("call", ["map", "apply", "future"])
def test_a_caller_that_waits_for_another_task_is_no_deadlock(call):
    with scene("through_pool", "fork", "healthy", call) as program:
        waits(program, "MainProcess", "result")
        for _ in range(5):
            assert [one for one in program.report()["findings"] if one["kind"] in ("deadlock", "lost")] == []


@pytest.mark.parametrize("call", ["map", "apply"])
def test_a_task_with_a_time_limit_is_no_deadlock(call):
    with scene("through_pool", "fork", "limit", call) as program:
        waits(program, "MainProcess", "result")
        for _ in range(5):
            assert [one for one in program.report()["findings"] if one["kind"] in ("deadlock", "lost")] == []
