"""The hub of a cluster by itself: random requests, cancels and deaths, compared with what must always hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from procession._cluster.sync.hub import Hub, Owner
from procession._cluster.sync.kinds import kinds

A, B, C = Owner("one", 1, 1), Owner("one", 2, 1), Owner("two", 1, 1)


class World:
    """A hub with processes, and the answers that they were sent."""

    def __init__(self, *owners: Owner) -> None:
        self.answers: dict[tuple[Owner, int], Any] = {}
        self.asked: set[tuple[Owner, int]] = set()
        self.time = 0.0
        self.hub = Hub(self._answer, kinds(), lambda: self.time)
        self._last = 0
        for owner in owners:
            self.hub.process_began(owner.node, owner.process, 100 + owner.process, f"p{owner.process}", owner.node)

    def _answer(self, owner: Owner, number: int, answer: list[Any]) -> None:
        assert (owner, number) in self.asked, "an answer without a request"
        assert (owner, number) not in self.answers, "a second answer"
        self.answers[owner, number] = answer

    def ask(self, owner: Owner, found: int, op: str, *args: Any) -> int:
        """Asks, and returns the number of the request."""
        self._last += 1
        self.asked.add((owner, self._last))
        self.hub.request(owner, self._last, found, op, list(args))
        return self._last

    def now(self, owner: Owner, found: int, op: str, *args: Any) -> Any:
        """Asks, and returns the answer, which comes at once."""
        return self.answers.get((owner, self.ask(owner, found, op, *args)))

    def make(self, owner: Owner, kind: str, *args: Any) -> int:
        answer = self.now(owner, 0, "make", kind, None, *args)
        assert answer[0] == "ok", answer
        return int(answer[1])


def test_a_lock_goes_from_one_to_the_next_in_order():
    world = World(A, B, C)
    lock = world.make(A, "lock")
    assert world.now(A, lock, "acquire", True) == ["ok", True]
    second, third = world.ask(B, lock, "acquire", True), world.ask(C, lock, "acquire", True)
    assert world.now(B, lock, "acquire", False) == ["ok", False]
    assert world.now(A, lock, "release") == ["ok", None]
    assert world.answers[B, second] == ["ok", True] and (C, third) not in world.answers
    assert world.now(A, lock, "release") == ["ok", None]  # by another process than the holder
    assert world.answers[C, third] == ["ok", True]
    world.now(C, lock, "release")
    assert world.now(C, lock, "release")[:2] == ["error", "ValueError"]


def test_the_death_of_a_holder_is_told_to_one_waiter_and_the_next_gets_the_lock():
    world = World(A, B, C)
    lock = world.make(B, "lock")
    world.hub.refer(C[:2], "held", lock)
    world.now(A, lock, "acquire", True)
    second, third = world.ask(B, lock, "acquire", True), world.ask(C, lock, "acquire", True)
    world.hub.process_ended("one", 1, -9)
    assert world.answers[B, second] == ["died", 101, "p1", "one", -9]
    assert world.answers[C, third] == ["ok", True]


def test_a_death_without_waiters_is_told_to_the_next_that_comes():
    world = World(A, B)
    lock = world.make(B, "lock")
    world.now(A, lock, "acquire", True)
    world.hub.process_ended("one", 1, None)
    assert world.now(B, lock, "acquire", False) == ["died", 101, "p1", "one", None]
    assert world.now(B, lock, "acquire", False) == ["ok", True]


def test_a_lock_stays_held_if_its_holder_ended_well_or_it_is_not_robust():
    for recursive, robust, code, told in (
        (False, True, 0, False),
        (True, True, 0, True),
        (False, False, -9, False),
        (True, False, -9, False),
    ):
        world = World(A, B)
        lock = world.make(B, "lock", recursive, robust)
        world.now(A, lock, "acquire", True)
        world.hub.process_ended("one", 1, code)
        answer = world.now(B, lock, "acquire", False)
        assert answer[0] == "died" if told else answer == ["ok", False]
        if not recursive and not told:
            assert world.now(B, lock, "release") == ["ok", None]
            assert world.now(B, lock, "acquire", False) == ["ok", True]


def test_an_interrupted_caller_passes_the_news_of_a_death_on():
    world = World(A, B)
    lock = world.make(B, "lock")
    world.now(A, lock, "acquire", True)
    world.hub.process_ended("one", 1, -9)
    answer = world.now(B, lock, "acquire", False)
    world.hub.request(B, 0, lock, "tell", answer[1:])
    assert world.now(B, lock, "acquire", False) == answer


def test_a_condition_releases_the_lock_wholly_and_gives_it_back():
    world = World(A, B)
    lock = world.make(A, "lock", True)
    condition = world.make(A, "condition", lock)
    world.hub.refer(B[:2], "held", lock)
    world.now(A, lock, "acquire", True)
    world.now(A, lock, "acquire", True)
    waiting = world.ask(A, condition, "wait")
    assert world.now(B, lock, "acquire", False) == ["ok", True]
    assert world.now(B, condition, "waiting") == ["ok", 1]
    assert world.now(B, condition, "notify", 5) == ["ok", None]
    assert (A, waiting) not in world.answers  # the lock is held
    world.now(B, lock, "release")
    assert world.answers[A, waiting] == ["ok", True]
    assert world.now(A, lock, "look")[1][4] == 2


def test_a_cancelled_wait_of_a_condition_answers_when_the_lock_is_held_again():
    world = World(A, B)
    lock = world.make(A, "lock", True)
    condition = world.make(A, "condition", lock)
    world.now(A, lock, "acquire", True)
    waiting = world.ask(A, condition, "wait")
    world.now(B, lock, "acquire", True)
    world.hub.cancel(A, waiting)
    assert (A, waiting) not in world.answers
    world.now(B, lock, "release")
    assert world.answers[A, waiting] == ["ok", False]


def test_the_notification_of_a_waiter_that_ends_goes_to_the_next():
    world = World(A, B, C)
    lock = world.make(C, "lock", True)
    condition = world.make(C, "condition", lock)
    waits = []
    for owner in (A, B):
        world.now(owner, lock, "acquire", True)
        waits.append(world.ask(owner, condition, "wait"))
    world.now(C, lock, "acquire", True)
    world.now(C, condition, "notify", 1)
    world.hub.process_ended("one", 1, -9)  # notified, and waits for the lock
    world.now(C, lock, "release")
    assert world.answers[B, waits[1]] == ["ok", True]


def test_a_waiter_of_a_condition_is_told_of_a_death_and_holds_the_lock():
    world = World(A, B)
    lock = world.make(B, "lock", True)
    condition = world.make(B, "condition", lock)
    world.now(B, lock, "acquire", True)
    waiting = world.ask(B, condition, "wait")
    world.now(A, lock, "acquire", True)
    world.now(A, condition, "notify", 1)
    world.hub.process_ended("one", 1, -9)
    assert world.answers[B, waiting][0] == "died"
    assert world.now(B, lock, "look")[1][5] is True


def test_a_barrier_counts_the_dead_and_breaks_if_the_actor_dies():
    world = World(A, B, C)
    barrier = world.make(C, "barrier", 2)
    world.ask(A, barrier, "wait", False)
    world.hub.process_ended("one", 1, -9)
    assert world.now(C, barrier, "look") == ["ok", [2, 1, False]]
    assert world.now(C, barrier, "wait", False) == ["ok", ["pass", 1]]
    waiting = world.ask(C, barrier, "wait", True)
    assert world.now(B, barrier, "wait", True)[1][0] == "act"
    world.hub.process_ended("one", 2, -9)
    assert world.answers[C, waiting] == ["ok", ["broken"]]
    assert world.now(C, barrier, "wait", False) == ["ok", ["broken"]]
    world.now(C, barrier, "reset")
    assert world.now(C, barrier, "look") == ["ok", [2, 0, False]]


def test_parties_that_come_during_the_action_are_in_the_next_round():
    world = World(A, B, C)
    barrier = world.make(C, "barrier", 2)
    first = world.ask(A, barrier, "wait", True)
    _, round = world.now(B, barrier, "wait", True)[1][1:]
    early = world.ask(C, barrier, "wait", True)
    assert world.now(B, barrier, "tripped", round) == ["ok", True]
    assert world.answers[A, first] == ["ok", ["pass", 0]]
    assert (C, early) not in world.answers
    assert world.now(A, barrier, "wait", True)[1][0] == "act"


def test_a_party_that_gives_up_breaks_its_own_round_alone():
    world = World(A, B, C)
    barrier = world.make(C, "barrier", 2)
    world.ask(A, barrier, "wait", True)
    _, round = world.now(B, barrier, "wait", True)[1][1:]
    assert world.now(B, barrier, "tripped", round) == ["ok", True]
    world.now(B, barrier, "abort", round)
    assert world.now(C, barrier, "look") == ["ok", [2, 0, False]]
    world.now(B, barrier, "abort", round + 1)
    assert world.now(C, barrier, "look") == ["ok", [2, 0, True]]


def test_set_wakes_all_that_wait_for_an_event():
    world = World(A, B)
    event = world.make(A, "event")
    waits = [world.ask(owner, event, "wait") for owner in (A, B, B)]
    world.now(A, event, "set")
    world.now(A, event, "clear")
    assert all(world.answers[owner, n] == ["ok", True] for owner, n in zip((A, B, B), waits, strict=True))
    waiting = world.ask(A, event, "wait")
    world.hub.cancel(A, waiting)
    assert world.answers[A, waiting] == ["cancelled"]


def test_an_object_is_kept_by_handles_pickles_and_what_is_on_its_way():
    world = World(A, B, C)
    hub = world.hub
    event = world.make(A, "event")
    hub.refer(A[:2], "sent", event)
    hub.refer(A[:2], "dropped", event)
    assert event in hub.objects  # the pickle may still be unpickled
    hub.process_ended("one", 1, 0)
    assert event in hub.objects  # a result of it may be on its way
    hub.refer(B[:2], "held", event)
    hub.refer(B[:2], "held", event)
    hub.refer(B[:2], "dropped", event)
    assert event in hub.objects
    hub.refer(B[:2], "dropped", event)
    assert event not in hub.objects
    assert world.now(C, event, "set") == ["gone"]
    again = world.make(A, "event") if A[:2] in hub.processes else world.make(C, "event")
    hub.refer(C[:2], "sent", again)
    hub.node_ended("two")
    assert again not in hub.objects and not hub.objects


def test_what_is_on_its_way_to_a_client_that_ends_is_not_kept():
    world = World(A, C)
    hub = world.hub
    event = world.make(A, "event")
    hub.refer(C[:2], "sent", event)
    hub.process_ended("two", 1, 0)
    assert hub.objects[event].on_its_way == {"two"}
    hub.node_ended("one")
    assert not hub.objects


def test_a_request_that_makes_no_sense_is_an_error_of_its_caller():
    world = World(A)
    lock = world.make(A, "lock")
    assert world.now(A, lock, "dance")[0] == "error"
    assert world.now(A, lock, "acquire")[0] == "error"
    assert world.now(A, 0, "make", "piano", None)[0] == "error"
    assert world.now(A, lock, "acquire", True) == ["ok", True]


OWNERS = [Owner(node, process, thread) for node in ("one", "two") for process in (1, 2) for thread in (1, 2)]
STEP = st.one_of(
    st.tuples(
        st.sampled_from(["acquire", "release", "wait", "notify", "try", "down", "up", "set", "clear", "await", "meet"]),
        st.sampled_from(OWNERS),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("die"), st.sampled_from(sorted({owner[:2] for owner in OWNERS}))),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=60), st.booleans())
def test_each_request_gets_one_answer_and_nothing_is_lost(steps, recursive):
    world = World(*{owner[:2]: owner for owner in OWNERS}.values())
    hub = world.hub
    hub.process_began("keeper", 1)
    keeper = Owner("keeper", 1, 1)
    lock = world.make(keeper, "lock", recursive)
    condition = world.make(keeper, "condition", lock)
    semaphore = world.make(keeper, "semaphore", 1, 100)
    event, barrier = world.make(keeper, "event"), world.make(keeper, "barrier", 3)
    ops = {
        "acquire": (lock, "acquire", True),
        "try": (lock, "acquire", False),
        "release": (lock, "release"),
        "wait": (condition, "wait"),
        "notify": (condition, "notify", 1),
        "down": (semaphore, "acquire", True),
        "up": (semaphore, "release", 1),
        "set": (event, "set"),
        "clear": (event, "clear"),
        "await": (event, "wait"),
        "meet": (barrier, "wait", False),
    }
    waiting: list[tuple[Owner, int, str]] = []

    def open_now() -> list[tuple[Owner, int, str]]:
        return [each for each in waiting if each[:2] not in world.answers and each[0][:2] in hub.processes]

    ups = 0
    for what, which in steps:
        if what == "die":
            hub.process_ended(*which, -9)
        elif what == "cancel":
            candidates = open_now()
            if candidates:
                owner, number, _ = candidates[which % len(candidates)]
                hub.cancel(owner, number)
        elif which[:2] in hub.processes and not any(owner == which for owner, _, _ in open_now()):
            number = world.ask(which, *ops[what])
            waiting.append((which, number, what))
            ups += what == "up" and world.answers[which, number][0] == "ok"
        line = hub.objects[lock]
        assert line.holder is None or line.holder[:2] in hub.processes
        if line.holder is None:
            assert not line.waiters(), "the lock is free, and a request waits for it"
        downs = sum(world.answers.get(each[:2]) == ["ok", True] for each in waiting if each[2] == "down")
        value = world.now(keeper, semaphore, "look")[1][0]
        assert value == 1 + ups - downs
        assert value == 0 or not hub.objects[semaphore].waiters()
        owners = Counter(owner for found in hub.objects.values() for owner, _ in found.waiters())
        assert owners == Counter(owner for owner, _, _ in open_now())
    for owner, number, _ in open_now():
        hub.cancel(owner, number)
    while (holder := hub.objects[lock].holder) is not None:
        world.now(holder, lock, "release")
    assert not open_now(), "a cancelled request has no answer"
    for process in {owner[:2] for owner in OWNERS} | {("keeper", 1)}:
        hub.process_ended(*process)
    assert not hub.objects and not hub.processes
