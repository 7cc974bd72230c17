"""Waits that a thread outside of Procession could end: which are suspected, and which are no reason to worry."""

from __future__ import annotations

from deadlines import until
from scenes import scene


def suspected(program):
    return program.finding("lost", lambda finding: finding["proof"] == "suspected")


def test_a_producer_for_whose_room_only_a_sleeping_thread_is_left_is_suspected():
    with scene("asleep", "fork", "room") as program:
        finding = suspected(program)
        assert finding["level"] == "warning"
        assert finding["seconds"] >= 5
        assert [step["who"]["name"] for step in finding["steps"]] == ["producer"]
        main = program.member("MainProcess")["pid"]
        assert finding["details"][0] == f"asleep outside of Procession: MainProcess {main} (its main thread)"


def test_a_consumer_whose_last_producer_was_killed_is_suspected_and_the_producer_is_named():
    with scene("asleep", "fork", "producer") as program:
        finding = suspected(program)
        assert [step["who"]["name"] for step in finding["steps"]] == ["consumer"]
        last = next(text for text in finding["details"] if "put the last one" in text)
        # its parent has not asked for its exit code: it is a zombie
        assert last.startswith("killed ") and "(killed by signal 9) put the last one, at least " in last
        [queue] = [one for one in program.report()["family"]["objects"] if one["kind"] == "Queue"]
        assert (queue["put_by"]["lives"], queue["put_by"]["exit"]) == (False, -9)
        assert queue["taken_by"]["who"]["name"] == "consumer"


def test_a_consumer_without_work_whose_producer_sleeps_is_no_reason_to_worry():
    with scene("asleep", "fork", "idle") as program:

        def waits_long():
            waits = [thread["wait"] for thread in program.member("consumer")["threads"]]
            return any(wait and wait["seconds"] > 6 for wait in waits)

        until(waits_long)
        assert program.report()["findings"] == []


def test_a_lock_that_an_ended_process_has_kept_is_suspected_and_not_called_the_lock_of_a_killed_one():
    with scene("asleep", "fork", "kept") as program:
        finding = suspected(program)
        assert [step["who"]["name"] for step in finding["steps"]] == ["waiter"]
        assert any("without releasing it" in text or "has not released it" in text for text in finding["details"])
        assert [one for one in program.report()["findings"] if one["kind"] == "died"] == []


def test_a_thread_that_waits_for_its_own_process_hides_no_deadlock():
    with scene("asleep", "fork", "thread") as program:
        finding = program.finding("deadlock", lambda finding: finding["proof"] == "certain")
        assert {step["what"] for step in finding["steps"]} == {"room", "join"}


def test_a_stopped_consumer_names_the_producer_that_only_it_can_wake(start_method):
    with scene("asleep", start_method, "stopped") as program:
        finding = program.finding("stopped", lambda finding: finding["steps"] != [])
        assert finding["level"] == "problem"
        assert [step["who"]["name"] for step in finding["steps"]] == ["producer"]
        assert "no other process is left that can end these waits" in finding["details"]
