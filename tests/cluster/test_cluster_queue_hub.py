"""The queue in the hub, without Dask: random requests, cancels and deaths, beside what consumers have seen."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from procession._cluster.sync.hub import Hub, Owner
from procession._cluster.sync.hub_queue import Queue


class World:
    """A hub with a queue, and the processes that use it."""

    def __init__(self, maxsize=0, maxbytes=0):
        self.answers = {}
        self.told = []
        self.hub = Hub(self.note, {"Queue": Queue}, lambda: 0.0, lambda *what: self.told.append(what))
        self.known = set()
        self.last = 0
        maker = Owner("client", 1, 1)
        self.number = self.ask(maker, "make", "Queue", None, maxsize, maxbytes)
        self.queue = self.hub.objects[self.number]
        self.maker = maker
        self.other = self.ask(maker, "make", "Queue", None)  # its handle is sent in messages

    def note(self, owner, number, answer):
        assert (owner, number) not in self.answers, "a request is answered once"
        assert answer[0] == "ok", answer
        self.answers[owner, number] = answer[1]

    def begin(self, owner, op, *args):
        if owner[:2] not in self.known:
            self.known.add(owner[:2])
            self.hub.process_began(owner.node, owner.process)
        self.last += 1
        self.hub.request(owner, self.last, 0 if op == "make" else self.number, op, list(args))
        return owner, self.last

    def tell(self, owner, op, *args):
        self.hub.request(owner, 0, self.number, op, list(args))

    def end(self, owner):
        self.hub.process_ended(owner.node, owner.process)

    def ask(self, owner, op, *args):
        return self.answer(self.begin(owner, op, *args))

    def keepers(self):
        """The number of messages that keep the other object."""
        return self.hub.objects[self.other].kept_by["", self.number]

    def answer(self, name):
        found = self.answers.pop(name, None)
        return found[:2] if type(found) is list and found[0] == "items" else found

    def dropped(self):
        """The keys that places were told to drop."""
        return [(node, message[2]) for node, message in self.told if message[0] == "drop"]

    def put(self, owner, *messages, wait=True):
        return self.ask(owner, "put", wait, list(messages))

    def get(self, owner, most=1, wait=True):
        return self.ask(owner, "get", wait, most)


A, B, C = Owner("n1", 1, 1), Owner("n1", 2, 1), Owner("n2", 1, 1)


def test_a_message_whose_consumer_dies_before_it_has_received_it_goes_to_the_next_one():
    world = World()
    assert world.put(A, b"1", b"2", b"3") == ["put", 3]
    assert world.get(B, 2) == ["items", [b"1", b"2"]]
    world.end(B)
    # they go on alone, since one of them may have killed the consumer
    assert [world.get(C, 9) for _ in range(3)] == [["items", [b"1"]], ["items", [b"2"]], ["items", [b"3"]]]


def test_a_message_that_kills_each_consumer_is_dropped_after_the_second_one():
    world = World()
    world.put(A, [1, [world.other], b"bomb"], b"2")
    world.get(B, 9)
    world.end(B)
    assert world.get(C, 9) == ["items", [[b"bomb"]]]
    world.end(C)
    assert not world.keepers()
    assert world.get(A, 9) == ["items", [b"2"]]


def test_a_message_that_was_received_goes_with_its_consumer():
    world = World()
    world.put(A, b"1", b"2")
    name = world.begin(B, "get", True, 1)
    assert world.answer(name) == ["items", [b"1"]]
    world.tell(B, "got", name[1])
    world.end(B)
    assert world.get(C, 9) == ["items", [b"2"]]


def test_messages_that_were_on_the_way_to_a_dead_node_are_dropped():
    world = World()
    world.put(A, b"1", b"2")
    world.get(C)
    world.hub.node_ended("n2")
    assert world.get(B, 9) == ["items", [b"2"]]
    assert world.queue.facts()["dropped"] == 1


def test_a_big_message_of_a_dead_node_is_lost_in_its_turn():
    world = World()
    world.put(C, b"1", [2, [], 100, "k1"], b"3", [2, [], 200, "k2"])
    world.get(A)
    held = world.begin(A, "get", True, 1)
    assert world.answer(held) == ["items", [[3, 100, "n2", C.process, "k1"]]]
    assert world.ask(A, "is_lost", held[1], 0) is False
    world.hub.node_ended("n2")
    assert world.ask(A, "is_lost", held[1], 0) is True
    assert world.get(B, 9) == ["items", [b"3", [4, 200, "n2"]]]
    assert not world.dropped()


def test_the_node_of_a_big_message_is_told_when_it_was_received():
    world = World()
    world.put(C, [2, [], 100, "k1"], [2, [], 100, "k2"])
    name = world.begin(A, "get", True, 1)
    assert not world.dropped()
    world.tell(A, "got", name[1])
    assert world.dropped() == [("n2", "k1")]
    assert world.queue.keys_of(C[:2]) == ["k2"]
    world.queue.gone()
    assert world.dropped()[1:] == [("n2", "k2")]


def test_the_node_of_a_big_message_is_told_when_it_is_not_put():
    world = World(maxsize=1)
    assert world.ask(C, "put", False, [[2, [], 100, "k1"], [2, [], 100, "k2"]]) == ["full", 1]
    assert world.dropped() == [("n2", "k2")]
    waiting = world.begin(C, "put", True, [b"small", [2, [], 100, "k3"]])
    world.hub.cancel(*waiting)
    assert world.answer(waiting) == ["full", 0]
    waiting = world.begin(C, "put", True, [[2, [], 100, "k4"]])
    world.ask(A, "shutdown", False)
    assert world.answer(waiting) == ["shutdown", 0]
    assert world.ask(C, "put", True, [[2, [], 100, "k5"]]) == ["shutdown", 0]
    assert world.dropped() == [("n2", key) for key in ("k2", "k3", "k4", "k5")]


def test_the_first_word_on_a_get_counts_and_its_repetitions_do_not():
    world = World()
    world.put(C, [1, [world.other], b"1"], b"2")
    name = world.begin(A, "get", True, 2)
    count = world.hub.objects[world.other].kept_by
    world.tell(A, "back", name[1], 1, [world.other])
    world.tell(A, "back", name[1], 0, [world.other])
    world.tell(A, "got", name[1], [world.other])
    assert (world.keepers(), count[A[:2]]) == (0, 1)
    assert world.get(B, 9) == ["items", [b"2"]]


def test_objects_whose_handles_are_in_messages_live_until_these_are_received():
    world = World()
    world.put(A, [1, [world.other], b"pickle", b"buffer"])
    world.hub.refer(world.maker[:2], "dropped", world.other)
    name = world.begin(B, "get", True, 1)
    assert world.answer(name) == ["items", [[b"pickle", b"buffer"]]]
    assert world.other in world.hub.objects
    world.tell(B, "got", name[1])
    assert world.other not in world.hub.objects


def test_objects_that_only_messages_in_each_other_keep_go_with_a_node():
    world = World()
    world.put(A, [1, [world.other], b"other"], [1, [world.number], b"itself"])
    world.last += 1
    world.hub.request(A, world.last, world.other, "put", [True, [[1, [world.number], b"back"]]])
    world.hub.node_ended("n1")
    assert world.number in world.hub.objects  # the client has them
    world.hub.node_ended("client")
    assert not world.hub.objects


def test_a_handle_that_is_told_as_dropped_before_it_is_told_as_held_leaves_nothing():
    world = World()
    world.put(A, b"1")
    world.put(A, [1, [world.other], b"other"])
    world.hub.refer(world.maker[:2], "dropped", world.other)
    name = world.begin(B, "get", True, 2)
    world.hub.refer(B[:2], "dropped", world.other)
    world.hub.refer(B[:2], "held", world.other)
    assert world.other in world.hub.objects
    world.tell(B, "got", name[1])
    assert world.other not in world.hub.objects


def test_what_a_dead_process_has_left_with_its_relay_is_told_to_that():
    world = World()
    world.put(C, [2, [], 100, "k1"], [2, [], 100, "k2"], b"3")
    world.get(A)
    world.end(C)
    assert world.told == [("n2", ["ended", C.process, ["k2", "k1"]])]


def test_what_does_not_fit_waits_and_one_that_is_bigger_than_the_limit_enters_alone():
    world = World(maxbytes=10)
    assert world.put(A, b"x" * 30) == ["put", 1]
    small = world.begin(A, "put", True, [b"y" * 4, b"z" * 7])
    assert world.put(B, b"late", wait=False) == ["full", 0]
    assert world.get(C) == ["items", [b"x" * 30]]
    assert world.answer(small) is None
    world.hub.cancel(*small)
    assert world.answer(small) == ["full", 1]
    assert world.ask(A, "look") == [1, 4, False, False, 2]


def test_put_after_a_smaller_one_waits_for_its_turn():
    world = World(maxbytes=10)
    world.put(A, b"x" * 6)
    first, second = world.begin(A, "put", True, [b"y" * 6]), world.begin(B, "put", True, [b"z"])
    assert (world.answer(first), world.answer(second)) == (None, None)
    world.end(A)
    assert world.answer(second) == ["put", 1]


def test_the_answer_to_get_says_whether_there_are_more():
    world = World()
    world.put(A, b"1", b"2")
    for more in (True, False):
        name = world.begin(B, "get", True, 1)
        assert world.answers.pop(name)[2] is more


def test_waiting_consumers_are_served_in_the_order_in_which_they_came():
    world = World()
    names = [world.begin(owner, "get", True, 2) for owner in (A, B, C)]
    world.hub.cancel(*names[0])
    assert world.answer(names[0]) == ["empty"]
    world.put(A, b"1", b"2", b"3")
    assert [world.answer(name) for name in names[1:]] == [["items", [b"1", b"2"]], ["items", [b"3"]]]
    world.hub.cancel(*names[1])
    assert not world.answers


def test_shut_down_lets_consumers_take_the_rest_and_wakes_the_others():
    world = World(maxsize=2)
    world.put(A, b"1", b"2")
    waiting, joining = world.begin(A, "put", True, [b"3"]), world.begin(C, "join")
    world.ask(B, "shutdown", False)
    assert world.answer(waiting) == ["shutdown", 0]
    assert world.put(A, b"4") == ["shutdown", 0]
    assert world.get(B, 9) == ["items", [b"1", b"2"]]
    assert world.get(B) == ["shutdown"]
    assert world.ask(B, "item") is True
    assert [world.ask(B, "done") for _ in range(3)] == [True, True, False]
    assert world.answer(joining) is True


def test_shut_down_at_once_discards_what_is_in_the_queue():
    world = World()
    world.put(C, b"1", [2, [world.other], 100, "k1"], b"3")
    world.get(A)
    joining = world.begin(B, "join")
    world.ask(B, "shutdown", True)
    assert world.get(B) == ["shutdown"]
    assert world.dropped() == [("n2", "k1")]
    assert world.answer(joining) is None
    world.ask(A, "done")
    assert world.answer(joining) is True


def test_what_comes_back_after_a_shut_down_at_once_is_discarded():
    world = World()
    world.put(A, b"1", b"2")
    world.get(B)
    joining = world.begin(C, "join")
    world.ask(C, "shutdown", True)
    world.end(B)
    assert world.answer(joining) is True
    assert world.get(C) == ["shutdown"]


def test_messages_of_a_get_that_was_interrupted_go_back():
    world = World()
    world.put(A, b"1", b"2", b"3")
    name = world.begin(B, "get", True, 3)
    world.tell(B, "back", name[1], 1)
    assert world.get(C, 9) == ["items", [b"2", b"3"]]


class Deaths(RuleBasedStateMachine):
    """Random processes on three nodes. Every message is a number, and each is somewhere at any time."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.next = 0
        self.processes = 0
        self.living: list[Owner] = []
        self.waiting = {}  # requests by name: (op, messages)
        self.confirmed: set[int] = set()  # `put` has returned
        self.received = Counter()
        self.handed = {}  # by the name of a get
        self.dropped = set()
        self.places = {}
        self.deaths = Counter()
        for node in ("n1", "n2", "n3"):
            self.start(node)

    def start(self, node):
        self.processes += 1
        self.living.append(Owner(node, self.processes, 1))

    @rule(node=st.sampled_from(["n1", "n2", "n3"]))
    def start_one(self, node):
        if len(self.living) < 8:
            self.start(node)

    def idle(self):
        busy = {name[0] for name in self.waiting} | {name[0] for name in self.handed}
        return [owner for owner in self.living if owner not in busy]

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), wait=st.booleans(), count=st.integers(1, 4), big=st.booleans())
    def put(self, data, wait, count, big):
        owner = data.draw(st.sampled_from(self.idle()))
        messages, other = [], self.world.other
        for _ in range(count):
            self.next += 1
            if big:
                messages.append([2, [other], self.next, self.next])  # its size tells which one is lost
                self.places[self.next] = owner.node
            else:
                messages.append([1, [other], self.next.to_bytes(8, "big")])
        name = self.world.begin(owner, "put", wait, messages)
        self.waiting[name] = "put", list(range(self.next - count + 1, self.next + 1))
        self.collect()

    @precondition(lambda self: self.idle())
    @rule(data=st.data(), wait=st.booleans(), most=st.integers(1, 4))
    def get(self, data, wait, most):
        name = self.world.begin(data.draw(st.sampled_from(self.idle())), "get", wait, most)
        self.waiting[name] = "get", most
        self.collect()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        self.world.hub.cancel(*name)
        self.collect()
        assert name not in self.waiting

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def receive(self, data):
        name = data.draw(st.sampled_from(sorted(self.handed)))
        self.received.update(self.handed.pop(name))
        self.world.tell(name[0], "got", name[1])

    @precondition(lambda self: self.handed)
    @rule(data=st.data())
    def give_back(self, data):
        name = data.draw(st.sampled_from(sorted(self.handed)))
        messages = self.handed.pop(name)
        skip = data.draw(st.integers(0, len(messages)))
        self.received.update(messages[:skip])
        self.world.tell(name[0], "back", name[1], skip)
        self.collect()

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data())
    def kill_process(self, data):
        owner = data.draw(st.sampled_from(self.living))
        self.living.remove(owner)
        for name in [name for name in self.handed if name[0] == owner]:
            for number in self.handed.pop(name):
                self.deaths[number] += 1
                if self.deaths[number] == 2:
                    self.dropped.add(number)
        self.forget([owner])
        self.world.end(owner)
        self.collect()

    @precondition(lambda self: len({owner.node for owner in self.living}) > 1)
    @rule(data=st.data())
    def kill_node(self, data):
        node = data.draw(st.sampled_from(sorted({owner.node for owner in self.living})))
        gone = [owner for owner in self.living if owner.node == node]
        for name in [name for name in self.handed if name[0] in gone]:
            self.dropped.update(self.handed.pop(name))
        self.forget(gone)
        self.living = [owner for owner in self.living if owner not in gone]
        dead = {number for number, place in self.places.items() if place == node}
        for number in dead:
            self.places[number] = None
        self.world.hub.node_ended(node)
        self.collect()

    def forget(self, gone):
        for name in [name for name in self.waiting if name[0] in gone]:
            del self.waiting[name]

    def collect(self):
        """Takes the answers."""
        for name in list(self.waiting):
            answer = self.world.answer(name)
            if answer is None:
                continue
            op, what = self.waiting.pop(name)
            if op == "put":
                kind, count = answer
                assert (kind == "put") == (count == len(what))
                self.confirmed.update(what[:count])
            elif answer[0] == "items":
                numbers = [self.number(sent) for sent in answer[1]]
                assert 1 <= len(numbers) <= what
                taken = [message.number for message in self.world.queue._handed[name[0][:2], name[1]]]
                assert taken == sorted(taken), "first in, first out"
                self.handed[name] = numbers

    def number(self, sent):
        if type(sent[0]) is bytes:
            return int.from_bytes(sent[0], "big")
        if sent[0] == 3:
            assert self.places[sent[4]] == sent[2] is not None
            return sent[4]
        assert sent[0] == 4
        assert self.places[sent[1]] is None
        return sent[1]

    @invariant()
    def every_message_is_in_one_place(self):
        queue = self.world.queue
        handed_out = [message for messages in queue._handed.values() for message in messages]
        inside, handed = [list(map(number_of, messages)) for messages in (queue._messages, handed_out)]
        known = Counter(inside) + Counter(handed) + self.received + Counter(self.dropped)
        assert all(count == 1 for count in known.values()), "nothing is doubled"
        assert self.confirmed <= set(known), "nothing is lost"
        assert [m.number for m in queue._messages] == sorted(m.number for m in queue._messages)
        assert self.world.keepers() == len(inside) + len(handed)
        assert sorted(n for what in self.handed.values() for n in what) == sorted(handed)

    @invariant()
    def nothing_waits_that_could_go_on(self):
        queue = self.world.queue
        assert not (queue._messages and queue._getters)
        assert not (queue._putters and queue._has_room(8))
        assert queue._bytes == sum(message.size for message in queue._messages)


def number_of(message):
    return message.size if message.body is None else int.from_bytes(message.body[0], "big")


class DeathsInABoundedQueue(Deaths):
    def __init__(self):
        super().__init__()
        self.world = World(maxsize=3)


Deaths.TestCase.settings = DeathsInABoundedQueue.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
TestDeaths = Deaths.TestCase
TestDeathsInABoundedQueue = DeathsInABoundedQueue.TestCase
