"""Small messages are not pickled, and nobody can tell: what arrives is what pickle would have delivered."""

from __future__ import annotations

import copyreg
import dataclasses
import gc
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import procession as mp
from deadlines import PATIENCE
from procession import _core


def through_queue(obj: Any) -> Any:
    queue = mp.Queue()
    queue.put(obj)
    return queue.get(timeout=PATIENCE)


def same(a: Any, b: Any, pairs: dict[int, int]) -> bool:
    """Equal in type and value, bit for bit, and with the same objects met twice."""
    if type(a) is not type(b):
        return False
    # Python keeps one object for each value of a single byte or character; pickle.loads makes others.
    alone = type(a) in (str, bytes) and len(a) < 2
    if type(a) in (str, bytes, tuple, list, dict) and not alone and pairs.setdefault(id(a), id(b)) != id(b):
        return False
    if type(a) in (tuple, list):
        return len(a) == len(b) and all(same(x, y, pairs) for x, y in zip(a, b, strict=True))
    if type(a) is dict:
        return len(a) == len(b) and all(
            same(k, m, pairs) and same(v, w, pairs) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    return bool(repr(a) == repr(b))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
keys = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers(), st.text(max_size=3))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(keys, inner, max_size=6)
        | inner.map(lambda x: (x, [x, x], x))
    ),  # the same object several times
    max_leaves=40,
)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_what_arrives_is_what_pickle_would_have_delivered(obj: Any) -> None:
    arrived = through_queue(obj)
    expected = pickle.loads(pickle.dumps(obj, 5))
    assert same(expected, arrived, {}), (expected, arrived)
    assert same(arrived, expected, {})


def test_an_object_that_contains_itself_arrives_containing_itself() -> None:
    knot: list[Any] = [1]
    knot.append(knot)
    arrived = through_queue(knot)
    assert arrived[1] is arrived


def test_a_list_met_twice_arrives_as_one_list() -> None:
    shared = [1]
    first, second = through_queue((shared, shared))
    assert first is second


class Number(int):
    """A subclass is not what it derives from."""


class Words(dict[str, int]):
    """Another one."""


@pytest.mark.parametrize("obj", [Number(3), Words(a=1), [Number(3)], (Words(),), {Number(1): 2}], ids=repr)
def test_a_subclass_of_a_built_in_keeps_its_type(obj: Any) -> None:
    arrived = through_queue(obj)
    assert arrived == obj
    assert type(arrived) is type(obj)
    if isinstance(obj, list | tuple):
        assert type(arrived[0]) is type(obj[0])


@pytest.mark.parametrize(
    "obj",
    [
        2**63 - 1,
        -(2**63),
        2**63,
        -(2**200),
        "\ud800",
        "a\0b",
        "é" * 3000,
        "x" * 5000,
        b"",
        (),
        [],
        {},
        -0.0,
        float("inf"),
        tuple(range(200)),
        [[[[[[[[[[[[1]]]]]]]]]]]],
        {i: str(i) for i in range(100)},
    ],
    ids=lambda obj: repr(obj)[:20],
)
def test_odd_values_arrive_as_they_are(obj: Any) -> None:
    arrived = through_queue(obj)
    assert repr(arrived) == repr(obj)
    assert type(arrived) is type(obj)


def test_bytes_that_nobody_wrote_are_refused_and_crash_nothing():
    from fuzz_small_messages import fuzz

    tried, decoded = fuzz(1.0, seed=20)
    assert tried > 1000
    assert 0 < decoded < tried


# --- instances of plain classes ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Plain:
    number: int
    parts: list[Any]


class Empty:
    pass


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int


class Reduced:
    def __reduce__(self) -> Any:
        return Reduced, ()


class WithState:
    def __getstate__(self) -> Any:
        return {"a": 1}


class SetsState:
    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state, restored=True)


class Derived(list):  # type: ignore[type-arg]
    pass


def is_small(obj: Any) -> bool:
    """Whether an object travels without pickle, which is so from the second of its class on."""
    _core._encode_small(obj)
    return _core._encode_small(obj) is not None


def test_plain_instances_travel_without_pickle_and_arrive_as_they_were() -> None:
    shared = ["a list"]
    first = Plain(1, shared)
    assert is_small(first)
    assert is_small(Empty())
    there, again, parts = through_queue([first, first, shared])
    assert there == first
    assert type(there) is Plain
    assert again is there
    assert there.parts is parts
    assert vars(through_queue(Empty())) == {}
    nested = through_queue({"deep": [Plain(1, [Plain(2, [Empty()])])]})
    assert nested["deep"][0].parts[0].number == 2


@pytest.mark.parametrize("obj", [Slotted(1), Reduced(), WithState(), SetsState(), Derived([1]), KeyError(1), Plain])
def test_a_class_that_has_a_say_in_its_pickling_is_pickled(obj: Any) -> None:
    assert not is_small(obj)
    arrived = through_queue(obj)
    assert arrived is obj or type(arrived) is type(obj)
    assert getattr(arrived, "restored", True)


def test_a_recursive_instance_and_a_registered_class_are_pickles_business(monkeypatch: pytest.MonkeyPatch) -> None:
    recursive = Empty()
    recursive.me = recursive  # type: ignore[attr-defined]
    assert not is_small(recursive)
    arrived = through_queue(recursive)
    assert arrived.me is arrived
    assert is_small(Empty())
    monkeypatch.setitem(copyreg.dispatch_table, Empty, lambda _: (Plain, (7, [])))  # type: ignore[arg-type]
    assert through_queue(Empty()) == Plain(7, [])


def test_a_class_whose_name_means_something_else_by_now_is_not_sent_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_small(Empty())
    old = Empty()
    monkeypatch.setitem(globals(), "Empty", Plain)
    assert not is_small(old)
    assert type(through_queue(old)).__name__ == "Empty"


class Bare:
    """An instance that gets a dictionary only when someone asks for it."""


def test_a_garbage_collection_does_not_change_what_is_being_written():
    """On Python 3.11 one may begin when an instance gets its dictionary, and its finalizers run at once."""
    things = [Bare() for _ in range(20)]
    for number, thing in enumerate(things):
        thing.number = number
    assert _core._encode_small(things[:1]) is None  # the class is examined, for the next time

    class Clears:
        def __del__(self) -> None:
            things.clear()

    before = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        garbage: Any = Clears()
        garbage.itself = garbage
        del garbage
        taken: list[dict[Any, Any]] = [{} for _ in range(500)]  # so that the next one is no dictionary used before
        gc.set_threshold(1)
        gc.enable()
        written = _core._encode_small(things)
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert written is not None and len(taken) == 500
    assert [thing.number for thing in _core._decode_small(written)] == [*range(20)]
