"""The dictionary that processes share."""

from __future__ import annotations

import collections
import decimal
import enum
import fractions
import gc
import os
import pickle
import random
import signal
import threading
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running, until

Pair = collections.namedtuple("Pair", "left right")


class Number(enum.IntEnum):
    SEVEN = 7


class Colour(enum.Enum):
    RED = 1


class Picky(str):
    """A str that equals others by its length."""

    __slots__ = ()

    def __eq__(self, other):
        return len(self) == len(other)

    def __hash__(self):
        return len(self)


# --- what the child processes do --------------------------------------------------------------------------------------


def count_up(shared, keys, times, how):
    for i in range(times):
        key = keys[i % len(keys)]
        if how == "change":
            shared.change(key, lambda n: n + 1, 0)
        elif how == "lock":
            with shared.lock(key):
                shared[key] = shared.get(key, 0) + 1
        else:
            while True:
                old = shared.setdefault(key, 0)
                if shared.compare_and_set(key, old, old + 1):
                    break


def take_all(shared, log):
    taken = []
    for key in list(shared):
        if (value := shared.pop(key, None)) is not None:
            taken.append(value)
    log.put(taken)


def look_up(shared, keys, log):
    log.put([shared.get(key) for key in keys])


def write_for_ever(shared, seed):
    dice = random.Random(seed)
    while True:
        key = dice.randrange(40)
        size = dice.choice((1, 100, 3_000, 20_000))
        if dice.random() < 0.5:
            shared[key] = bytes([key]) * size
        else:
            shared.pop(key, None)


def lock_key(shared, key, ready):
    shared.lock(key).acquire()
    ready.set()
    time.sleep(60)


# --- as a dict --------------------------------------------------------------------------------------------------------


def test_it_is_a_mutable_mapping():
    shared = mp.SharedDict({"a": 1}, b=2)
    assert isinstance(shared, MutableMapping)
    assert (list(shared), list(reversed(shared)), list(shared.values())) == (["a", "b"], ["b", "a"], [1, 2])
    assert shared.keys() == {"a", "b"}
    assert shared | {"c": 3} == {"a": 1, "b": 2, "c": 3} == {"c": 3} | shared
    shared |= [("c", 3)]
    assert shared == mp.SharedDict(a=1, b=2, c=3)
    assert shared != {"a": 1} and shared != 5
    assert repr(shared) == "SharedDict({'a': 1, 'b': 2, 'c': 3})"
    with pytest.raises(TypeError, match="unhashable"):
        hash(shared)
    with pytest.raises(KeyError, match="nothing"):
        shared["nothing"]


def test_equal_keys_are_one_key():
    shared = mp.SharedDict()
    for same in (
        (1, 1.0, True),
        (0, -0.0, False),
        (10**30, float(10**30) if float(10**30) == 10**30 else 10**30),
        ((1, 2), (1.0, 2), Pair(1, 2)),
        (7, Number.SEVEN),
        (frozenset([1, "a"]), frozenset(["a", True])),
        ("a" * 3, "aaa"),
    ):
        shared.clear()
        for key in same:
            shared[key] = key
        assert list(shared) == [same[0]]
        assert type(next(iter(shared))) is type(same[0])
        assert all(key in shared for key in same)


def test_keys_of_any_hashable_type_are_found_by_their_pickle():
    shared = mp.SharedDict()
    one, other = "".join(["x", "y"]), "".join(["x", "y"])
    keys = [
        uuid.UUID(int=5),
        decimal.Decimal("1.5"),
        fractions.Fraction(1, 3),
        Colour.RED,
        int,
        "\ud800",
        1 + 2j,
        range(3),
    ]
    for key in keys:
        shared[key] = repr(key)
    for key in pickle.loads(pickle.dumps(keys)):
        assert shared[key] == repr(key)
    assert list(shared) == keys
    shared[Colour.RED, one, one] = 1  # whether both are one object is of no consequence
    assert shared[Colour.RED, one, other] == 1
    shared[Picky("abc")] = "picky"
    assert "abc" not in shared and shared[Picky("abc")] == "picky"


def test_what_cannot_be_a_key_is_refused():
    shared = mp.SharedDict()
    for key in ([1], {}, (1, [2])):
        for use in (
            lambda key=key: shared[key],
            lambda key=key: shared.__setitem__(key, 1),
            lambda key=key: key in shared,
        ):
            with pytest.raises(TypeError, match="unhashable"):
                use()
    deep: tuple[Any, ...] = ()
    for _ in range(50):
        deep = (deep,)
    with pytest.raises(RecursionError):
        shared[deep] = 1
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        shared[lambda: 1] = 1
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        shared["a"] = threading.Lock()
    assert len(shared) == 0


def test_values_of_every_size_and_kind_come_back():
    shared = mp.SharedDict()
    for value in (None, 1.5, "é" * 3000, b"x" * 4096, b"x" * 4097, os.urandom(1 << 20), [{"a": (1,)}] * 500, {1, 2}):
        shared["k"] = value
        assert shared["k"] == value
        assert shared.copy() == {"k": value}


def test_what_one_gets_is_a_copy():
    shared = mp.SharedDict(k=[1])
    shared["k"].append(2)
    assert shared["k"] == [1]
    assert shared.change("k", lambda v: [*v, 2]) == [1, 2] == shared["k"]


def test_shared_objects_in_it_are_the_same_for_everybody():
    shared = mp.SharedDict(lock=mp.Lock(), value=mp.Value("i", 3), inner=mp.SharedDict(a=1))
    shared["many"] = [mp.Lock() for _ in range(100)]
    gc.collect()
    shared["value"].value = 5
    shared["inner"]["a"] = 2
    assert shared["lock"].acquire() and shared["lock"].locked()
    assert (shared["value"].value, shared["inner"]["a"], len(shared["many"])) == (5, 2, 100)
    assert shared["many"][99].acquire()
    assert shared["many"][99].locked()
    with pytest.raises(TypeError, match="cannot be a key"):
        shared[mp.Lock()] = 1


def test_what_is_removed_makes_room():
    from procession import _core

    def memory() -> int:
        return os.stat(f"/proc/self/fd/{_core.family_fd()}").st_blocks * 512

    shared = mp.SharedDict()
    before = memory()
    for _ in range(5):
        for n in range(3000):
            shared[n] = b"x" * 1000
        for n in range(3000):
            del shared[n]
        shared["big"] = bytes(50 << 20)
        shared.clear()
    assert memory() - before < 80 << 20  # the last big value may still be warm


def test_a_change_that_fails_changes_nothing():
    shared = mp.SharedDict(k=1)
    with pytest.raises(ZeroDivisionError):
        shared.change("k", lambda v: v // 0)
    with pytest.raises(KeyError):
        shared.change("absent", lambda v: v)
    assert not shared.compare_and_set("absent", None, 1)
    assert not shared.compare_and_set("k", 2, 3)
    assert shared == {"k": 1}


def test_each_key_has_one_lock():
    shared = mp.SharedDict()
    with shared.lock("a"), shared.lock("a"):  # it is an RLock
        assert shared.lock("b").acquire(False)
        found = []
        thread = threading.Thread(target=lambda: found.append(shared.lock("a").acquire(False)))
        thread.start()
        thread.join(PATIENCE)
        assert found == [False]
    shared.lock("b").release()
    assert len(shared) == 0


def test_subclasses_may_have_more():
    shared = Counting(a=1)
    other = pickle.loads(pickle.dumps(shared))
    assert (type(other), other.total()) == (Counting, 1)


class Counting(mp.SharedDict):  # type: ignore[misc,valid-type]
    def total(self) -> int:
        return sum(self.values())


# --- in several processes ---------------------------------------------------------------------------------------------


def test_what_one_puts_the_others_get(context):
    shared, log = context.Queue(), context.Queue()
    ours = mp.SharedDict({Pair(1, "x"): 1, 2.5: 2, "s": 3, Colour.RED: 4})
    keys = [(1.0, "x"), 2.5, "s", Colour.RED, "none"]
    with running(context, (look_up, ours, keys, log)) as children:
        assert log.get(timeout=PATIENCE) == [1, 2, 3, 4, None]
        assert ended(*children) == [0]
    del shared


@pytest.mark.parametrize("how", ["change", "lock", "compare_and_set"])
def test_no_change_of_a_key_is_lost(context, how):
    shared = mp.SharedDict()
    with running(context, *[(count_up, shared, ["a", "b", 3], 150, how)] * 2) as children:
        assert ended(*children, seconds=40) == [0, 0]
    assert shared == {"a": 100, "b": 100, 3: 100}


def test_each_value_is_popped_by_one():
    context = mp.get_context("fork")
    shared, log = mp.SharedDict({n: n for n in range(300)}), context.Queue()
    with running(context, *[(take_all, shared, log)] * 3) as children:
        taken = [log.get(timeout=PATIENCE) for _ in children]
        assert ended(*children) == [0, 0, 0]
    assert sorted(value for values in taken for value in values) == list(range(300))
    assert len(shared) == 0


def test_writers_that_are_killed_leave_whole_values_and_no_memory_behind():
    from procession import _core

    context = mp.get_context("fork")
    shared = mp.SharedDict()
    for round in range(8):
        with running(context, *[(write_for_ever, shared, round * 2 + n) for n in range(2)]) as children:
            until(lambda: len(shared) > 5)
            time.sleep(0.03)
            for child in children:
                child.kill()
            ended(*children)
        for key, value in shared.copy().items():
            assert set(value) == {key}
        assert len(list(shared)) == len(shared)
    _core.sweep()
    shared["after"] = 1
    assert shared["after"] == 1


def test_the_holder_of_a_keys_lock_is_killed_and_the_next_is_told(context):
    shared, ready = mp.SharedDict(), context.Event()
    with running(context, (lock_key, shared, "k", ready)) as [child]:
        assert ready.wait(PATIENCE)
        assert not shared.lock("k").acquire(False)
        assert shared.lock("other").acquire(False)
        child.kill()
        assert ended(child) == [-signal.SIGKILL]
    with pytest.raises(mp.OwnerDiedError):
        shared.lock("k").acquire()
    assert shared.lock("k").acquire(False)
