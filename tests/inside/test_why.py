"""`procession why` names what hangs, in programs that hang in different ways."""

from __future__ import annotations

import time

import pytest

from deadlines import until
from scenes import scene


def who(finding):
    return sorted(member["name"] for member in finding["members"])


def certain(finding):
    return finding["proof"] == "certain"


# --- circles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_crossed_locks_are_a_deadlock_with_holders_and_times(start_method, kind):
    with scene("crossed_locks", start_method, kind, "2") as program:
        finding = program.finding("deadlock", certain)
        assert who(finding) == ["p0", "p1"]
        assert {held["kind"] for step in finding["steps"] for held in step["holds"]} == {kind}
        first, second = finding["steps"]
        assert (first["object"], second["object"]) == (second["holds"][0], first["holds"][0])
        assert {named["name"] for named in finding["objects"]} == {"lock0", "lock1"}
        assert all("crossed_locks.py:" in named["made_at"] for named in finding["objects"])
        program.finding("deadlock", lambda one: any("behind them: MainProcess" in text for text in one["details"]))


def test_the_time_of_a_deadlock_is_that_of_its_last_wait():
    with scene("crossed_locks", "fork", "RLock", "2") as program:
        finding = program.finding("deadlock", certain)
        began = time.monotonic() - finding["seconds"]
        until(lambda: time.monotonic() - began > 1.2)
        before = time.monotonic() - began
        seconds = program.finding("deadlock", certain)["seconds"]
        assert before - 0.2 <= seconds <= time.monotonic() - began + 0.2


def test_three_locks_are_one_circle(start_method):
    with scene("crossed_locks", start_method, "Lock", "3") as program:
        finding = program.finding("deadlock", certain)
        assert who(finding) == ["p0", "p1", "p2"]
        assert len(finding["steps"]) == 3


def test_a_wait_with_a_timeout_is_no_deadlock():
    with scene("with_timeout", "fork") as program:

        def both_wait():
            members = program.report()["family"]["members"]
            waits = [thread["wait"] for member in members for thread in member["threads"] if thread["wait"]]
            return len([wait for wait in waits if wait["what"] == "acquire" and wait["steady"]]) == 2

        until(both_wait)
        assert program.report()["findings"] == []


def waits(program, count):
    """Waits until `count` threads wait, and returns what `why` says then."""

    def there():
        report = program.report()
        members = report["family"]["members"]
        threads = [thread for member in members for thread in member["threads"]]
        return report if len([one for one in threads if one["wait"] and one["wait"]["steady"]]) == count else None

    return until(there)


def test_waiting_for_a_thread_that_works_under_a_lock_is_no_deadlock(start_method):
    with scene("slow_lock", start_method) as program:
        assert waits(program, 3)["findings"] == []


def test_waiting_for_a_signal_handler_is_no_lost_wait():
    with scene("signalled") as program:
        assert waits(program, 1)["findings"] == []


def test_a_lock_and_a_join_are_a_deadlock(start_method):
    with scene("lock_and_join", start_method) as program:
        finding = program.finding("deadlock", certain)
        assert who(finding) == ["MainProcess", "child"]
        joins = [step["joins"]["name"] for step in finding["steps"] if step["joins"]]
        assert joins == ["child"]


def test_a_lock_and_a_full_queue_are_a_deadlock(start_method):
    with scene("lock_and_queue", start_method) as program:
        finding = program.finding("deadlock", certain)
        assert who(finding) == ["MainProcess", "producer"]
        assert {step["what"] for step in finding["steps"]} == {"acquire", "room"}


def test_a_parent_that_joins_before_it_takes_is_a_circle_through_the_join(start_method):
    with scene("join_before_get", start_method) as program:
        finding = program.finding("deadlock", certain)
        assert {step["what"] for step in finding["steps"]} == {"join", "room"}
        assert "before joining" in finding["advice"][0]


# --- waits that cannot end --------------------------------------------------------------------------------------------


def test_a_producer_whose_consumer_was_killed_waits_for_room_for_ever(start_method):
    with scene("consumer_killed", start_method, "killed") as program:
        finding = program.finding("deadlock", certain)
        text = " ".join(finding["details"])
        assert "nobody is left who takes a message out of Queue" in text
        assert "consumer" in text and "killed by signal 9" in text
        assert "took the last message out of Queue" in finding["details"][0]
        assert "find out why consumer" in finding["advice"][0]
        consumer = next(member for member in program.report()["family"]["members"] if member["name"] == "consumer")
        assert consumer["state"] == "dead"


def test_a_parent_that_joins_with_a_time_limit_again_and_again_hides_no_lost_wait(start_method):
    with scene("consumer_killed", start_method, "killed", "polls") as program:
        finding = program.finding("lost", lambda finding: finding["proof"] == "suspected")
        assert who(finding) == ["producer"]
        assert "a wait with a time limit" in finding["details"][0]
        assert any("consumer" in text and "took the last one" in text for text in finding["details"])


def test_a_consumer_that_computes_is_no_finding():
    with scene("consumer_killed", "fork", "computes") as program:
        until(lambda: any(thread["wait"] for thread in program.member("producer")["threads"]))
        assert program.report()["findings"] == []


def test_consumers_whose_producers_have_ended_are_lost(start_method):
    with scene("producers_gone", start_method) as program:
        finding = program.finding("lost")
        assert who(finding) == ["consumer0", "consumer1"]
        assert finding["objects"][0]["kind"] == "Queue"
        # A child that the fork server has forked ahead may have taken the seat of the producer, which told of its end.
        if start_method != "forkserver":
            assert any("producer" in text and "exit code 0" in text for text in finding["details"])


# --- single processes -------------------------------------------------------------------------------------------------


def test_a_process_that_is_stopped_inside_a_queue_is_named_with_the_remedy():
    with scene("stopped_inside", "fork", "queue") as program:
        finding = program.finding("stopped", lambda finding: "inside Queue" in finding["title"])
        pid = program.member("consumer")["pid"]
        assert finding["title"].startswith(f"consumer {pid} is stopped (SIGSTOP) inside Queue")
        assert finding["advice"] == [f"kill -CONT {pid} lets it go on"]


def test_a_process_that_is_stopped_in_a_change_of_family_memory_is_named():
    with scene("stopped_inside", "fork", "change") as program:
        finding = program.finding("stopped", lambda finding: "in the middle of a change" in finding["title"])
        assert finding["level"] == "problem"
        assert finding["advice"] == [f"kill -CONT {program.member('consumer')['pid']} lets it go on"]


def test_a_killed_holder_is_named_with_its_signal(start_method):
    with scene("holder_killed", start_method) as program:
        finding = program.finding("died")
        assert "was held by dier" in finding["title"] and "killed by signal 9" in finding["title"]
        assert "OwnerDiedError" in finding["details"][0]


# --- pools ------------------------------------------------------------------------------------------------------------


def test_one_long_chunk_leaves_the_other_workers_idle():
    with scene("long_chunk", "fork") as program:
        finding = program.finding("starving")
        assert "2 idle since" in finding["title"] and "0 tasks wait" in finding["title"]
        assert "work, number 3" in finding["details"][0]
