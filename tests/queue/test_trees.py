"""Trees of built-in objects arrive as they were. (No child process imports this file: it imports hypothesis.)"""

from __future__ import annotations

import builtins
import collections
import enum
import sys
import types
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import procession as mp
from deadlines import PATIENCE

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    """A str that is not exactly one."""


def same(a: Any, b: Any) -> bool:
    """Equal, and of equal types all the way down; -0.0 is not 0.0, and nan is nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a, b)) and all(map(same, a.values(), b.values()))
    return repr(a) == repr(b)


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from([Colour.RED, Name("name"), Point(1, 2), bytearray(b"x"), "\ud800"])
    | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64]),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.tuples(st.integers(), st.text()), inner)
    ),
    max_leaves=80,
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_a_tree_of_builtins_arrives_as_it_was(tree):
    q = mp.Queue()
    q.put(tree)
    assert same(q.get(timeout=PATIENCE), tree)


def test_identity_within_one_message_is_kept():
    q = mp.Queue()
    inner: list[Any] = [1]
    q.put([inner, inner, (inner,)])
    a, b, (c,) = q.get(timeout=PATIENCE)
    assert a is b is c
    loop: list[Any] = []
    loop.append(loop)
    q.put(loop)
    got = q.get(timeout=PATIENCE)
    assert got[0] is got
    ring: dict[str, Any] = {}
    ring["self"] = (ring,)
    q.put(ring)
    got = q.get(timeout=PATIENCE)
    assert got["self"][0] is got


def test_deep_and_wide_trees_arrive():
    q = mp.Queue()
    deep: Any = ()
    for _ in range(200):
        deep = (deep,)
    q.put(deep)
    assert q.get(timeout=PATIENCE) == deep
    wide = {n: [n, str(n), float(n)] for n in range(20_000)}
    q.put(wide)
    assert q.get(timeout=PATIENCE) == wide


class Patched:
    """Its attributes are read by a method that a test sets."""


def test_a_class_that_is_patched_after_its_first_message_changes_nothing_that_is_being_written(monkeypatch):
    queue = mp.Queue()
    queue.put([Patched()])
    assert len(queue.get(timeout=PATIENCE)) == 1
    message: list[object] = []

    def clear(self, name):
        message.clear()
        return object.__getattribute__(self, name)

    monkeypatch.setattr(Patched, "__getattribute__", clear, raising=False)
    for _ in range(100):
        message[:] = [Patched(), {"a": Patched()}, "end"]
        queue.put(message)
        arrived = queue.get(timeout=PATIENCE)
        assert arrived == [] or arrived[2:] == ["end"]


def test_an_import_while_a_message_is_written_changes_nothing_of_it(monkeypatch):
    queue = mp.Queue()
    message: list[object] = []
    real = builtins.__import__

    def clear(*args, **kwargs):
        message.clear()
        return real(*args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", clear)
    for number in range(20):  # each time reducers are looked for, since there is a new module
        monkeypatch.setitem(sys.modules, f"made_by_a_test_{number}", types.ModuleType("made"))
        message[:] = [Patched(), {"a": Patched()}, "end"]
        queue.put(message)
        arrived = queue.get(timeout=PATIENCE)
        assert arrived == [] or arrived[2:] == ["end"]
