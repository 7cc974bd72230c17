"""Everyday Python objects in Rust programs, and values of Rust programs in Python."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import math
import types
import uuid
import zoneinfo
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import procession
from deadlines import PATIENCE
from procession.rust import Program
from rust_children import Color, Level, NamedPoint, Point, SlottedPoint, Stack

pytestmark = pytest.mark.timeout(func_only=True)


def same(one: object, other: object) -> bool:
    """Whether two objects are equal and of one type, also inside of lists and dicts, and arrays."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if hasattr(one, "dtype"):
        array_of: Any = one
        is_equal = array_of.dtype == other.dtype and array_of.shape == other.shape and (array_of == other).all()
        return bool(is_equal)
    if isinstance(one, BaseException) and isinstance(other, BaseException):
        return one.args == other.args
    return one == other or (one != one and other != other)


def nested(depth: int) -> Any:
    made: Any = 1
    for _ in range(depth):
        made = [made]
    return made


ROW = [0] * 1000
BERLIN = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
UTC = datetime.datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=datetime.UTC)
EAST = datetime.timezone(datetime.timedelta(hours=2), "EAST")

SAME = [
    {1, 2},
    set(),
    frozenset({1}),
    1j,
    complex(math.inf, -0.0),
    1 << 80,
    -(1 << 80),
    1 << 63,
    -(1 << 63) - 1,
    (1 << 4000) + 1,
    datetime.datetime(2026, 1, 1),
    UTC,
    BERLIN,
    datetime.datetime(2026, 1, 1, tzinfo=EAST),
    datetime.datetime(2026, 10, 25, 2, 30, fold=1),
    datetime.date(1, 1, 1),
    datetime.time(23, 59, 59, 999_999),
    datetime.time(1, fold=1, tzinfo=datetime.UTC),
    datetime.timedelta(-1, 5, 7),
    datetime.timedelta.max,
    Path("/x/y"),
    Path(),
    Path("/tmp/\udcff name"),
    decimal.Decimal("1.50"),
    decimal.Decimal("NaN").copy_abs(),
    uuid.UUID(int=5),
    uuid.UUID("67e55044-10b1-426f-9247-bb680e5fe0c8"),
    fractions.Fraction(1, 3),
    Color.RED,
    Color.GREEN,
    Level.HIGH,
    Point(1, 2.0),
    SlottedPoint(1, 2.0),
    NamedPoint(1, 2.0),
    [Point(1, 2.0)] * 50,
    Stack([1, 2, 3]),
    ValueError("no"),
    FileNotFoundError(2, "No such file", "x"),
    types.SimpleNamespace(a=1, b=[2]),
    range(3),
    range(10, -10, -3),
    slice(1, 2),
    {"a": [1, 2.5, "x", None, True, (b"z",)], 3: "int key", (1, 2): {3}},
    list(range(300)),
    tuple(range(-200, 200)),
    [(-1) ** n << 62 for n in range(100)],
    [n / 7 for n in range(100_000)],
    [ROW] * 1000,
    nested(40),
    nested(150),
    "x" * (1 << 20),
    math.nan,
    b"bytes" * 10_000,
    {"set": {1, 2}, "when": UTC, "where": Path("x"), "big": [1 << 80]},
]


@pytest.mark.parametrize("value", SAME, ids=lambda value: repr(value)[:30])
def test_an_everyday_object_comes_back_as_it_was(value: object, echo: tuple[Any, Any]) -> None:
    there, back = echo
    there.put(value)
    answer = back.get(timeout=PATIENCE)
    assert same(answer, value), answer


CHANGED = [
    (bytearray(b"abc"), b"abc"),
    ({"a": bytearray(b"abc"), "b": {1}}, {"a": b"abc", "b": {1}}),
    (collections.OrderedDict(a=1, b=2), {"a": 1, "b": 2}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (collections.deque([1, 2], maxlen=5), [1, 2]),
    (PurePosixPath("/x"), Path("/x")),
]


@pytest.mark.parametrize(("value", "natural"), CHANGED, ids=lambda value: repr(value)[:30])
def test_an_object_like_a_builtin_comes_back_as_the_builtin(
    value: object, natural: object, echo: tuple[Any, Any]
) -> None:
    there, back = echo
    there.put(value)
    answer = back.get(timeout=PATIENCE)
    assert same(answer, natural), answer


def test_arrays_of_every_type_and_order_come_back_as_they_were(echo: tuple[Any, Any]) -> None:
    np = pytest.importorskip("numpy")
    there, back = echo
    kinds = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "M8[ns]", "U3", "S4"]
    arrays = [np.arange(24).reshape(2, 3, 4).astype(kind) for kind in kinds]
    arrays += [np.arange(60_000).reshape(200, 300).astype(kind) for kind in kinds]
    arrays += [np.asfortranarray(one) for one in arrays]
    arrays += [np.array(3.5), np.zeros((0, 3)), np.zeros((3, 0), order="F"), np.arange(10)[::2], np.ones((5, 1, 1))]
    for one in arrays:
        there.put(one)
        answer = back.get(timeout=PATIENCE)
        assert same(answer, one), (answer, one)
        assert answer.flags.f_contiguous == one.flags.f_contiguous or not one.flags.forc
    record = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
    there.put(record)
    assert back.get(timeout=PATIENCE).tobytes() == record.tobytes()


def test_arrays_inside_of_other_objects_are_received_in_place(describe: tuple[Any, Any], echo: tuple[Any, Any]) -> None:
    np = pytest.importorskip("numpy")
    big, small = np.arange(100_000, dtype=np.float32), np.arange(4)
    there, back = describe
    there.put(big)
    assert back.get(timeout=PATIENCE) == "<f4 [100000] C in place"
    there.put(np.asfortranarray(np.ones((100, 200))))
    assert back.get(timeout=PATIENCE) == "<f8 [100, 200] F in place"
    there.put(small)
    assert back.get(timeout=PATIENCE) == "<i8 [4] C within"
    there.put(big[::2])
    assert back.get(timeout=PATIENCE) == "<f4 [50000] C within"
    there.put(array.array("d", [1.5, 2.5]))
    assert back.get(timeout=PATIENCE) == "<f8 [2] C within"
    there, back = echo
    value = {"arrays": [big, small, (big, {"deep": small})], "many": [big + n for n in range(100)], "set": {1}}
    there.put(value)
    answer = back.get(timeout=PATIENCE)
    assert same(answer, value)
    assert not answer["arrays"][0].flags.writeable
    # The memory outlives the message, and what was sent back was not copied.
    there.put(procession.move(big))
    assert same(back.get(timeout=PATIENCE), big)


def test_numpy_scalars_are_plain_values(describe: tuple[Any, Any]) -> None:
    np = pytest.importorskip("numpy")
    there, back = describe
    seen = [
        (np.float64(1.5), "Float(1.5)"),
        (np.float32(0.5), "Float(0.5)"),
        (np.float16(-0.25), "Float(-0.25)"),
        (np.arange(4.0).mean(), "Float(1.5)"),
        (np.int64(7), "Int(7)"),
        (np.int8(-7), "Int(-7)"),
        (np.uint64(2**64 - 1), "BigInt(BigInt(18446744073709551615))"),
        (np.bool_(True), "Bool(true)"),
        (np.str_("häß"), 'Str("häß")'),
        (np.str_(""), 'Str("")'),
        (np.bytes_(b"x"), "Bytes([120])"),
        (np.complex64(1j), "Complex { re: 0.0, im: 1.0 }"),
        (np.datetime64("2020-01-01"), "<M8[D] [] C within"),
        ([np.float64(1.0), np.int32(2)], "List([Float(1.0), Int(2)])"),
    ]
    for value, text in seen:
        there.put(value)
        assert back.get(timeout=PATIENCE) == text


def test_what_is_no_value_is_refused_by_name_and_stays_in_the_error(describe: tuple[Any, Any]) -> None:
    np = pytest.importorskip("numpy")
    there, back = describe
    refused = [
        (len, "builtins.len"),
        ([1, 2, {"deep": Point}], "rust_children.Point"),
        (Point(len, 1.0), "rust_children.Point"),  # type: ignore[arg-type]
        (np.array([1, "x"], dtype=object), "?"),
        (np.arange(3, dtype=">i4"), "?"),
        (np.ma.array([1, 2], mask=[0, 1]), "numpy"),
    ]
    for value, name in refused:
        there.put(value)
        answer = back.get(timeout=PATIENCE)
        assert answer.startswith(("refused " + name, "refused numpy")), answer
    there.put(np.arange(3, dtype=">i4"))
    assert "big-endian" in back.get(timeout=PATIENCE)
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    there.put(cycle)
    assert "contains itself" in back.get(timeout=PATIENCE)


def test_rust_sends_the_natural_objects(peer: str) -> None:
    np = pytest.importorskip("numpy")
    back = procession.Queue()
    program = Program([peer, "produce"], [back], daemon=True)
    program.start()
    squares = np.arange(2000.0) ** 2
    expected: list[Any] = [
        1 << 80,
        -(1 << 127),
        1 - 2j,
        {1, "two"},
        frozenset({3}),
        squares.reshape(2, 1000),
        np.array([1, -2, 3], np.int16),
        np.array([1 + 2j]),
        datetime.datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=datetime.UTC),
        datetime.timedelta(seconds=1.5),
        Path("/tmp/x"),
        decimal.Decimal("1.50"),
        uuid.UUID(bytes=b"0123456789abcdef"),
        range(1, 9, 2),
        ValueError("no"),
        Point(1, 2),
    ]
    for value in expected:
        answer = back.get(timeout=PATIENCE)
        assert same(answer, value), answer
    event, numbers = back.get(timeout=PATIENCE)
    assert event.is_set() and numbers == list(range(100))
    many = back.get(timeout=PATIENCE)
    assert len(many) == 100 and all(same(one, squares) for one in many)
    alone = back.get(timeout=PATIENCE)
    program.join(PATIENCE)
    assert program.exitcode == 0
    assert same(alone, squares) and not alone.flags.writeable
    assert same(many[99], squares)  # they outlive who sent them


def test_rust_types_are_received_from_python_objects(peer: str) -> None:
    np = pytest.importorskip("numpy")
    there, back, jobs, started = procession.Queue(), procession.Queue(), procession.Queue(), procession.Event()
    program = Program([peer, "typed"], [there, back], daemon=True)
    program.start()
    for value in (
        *({"x": 1, "y": 2.0}, Point(1, 2.0), SlottedPoint(1, 2.0), NamedPoint(1, 2.0)),
        *(np.float64(1.5), 2, Level.HIGH, np.bool_(True), "text", 1 << 80),
        *([np.float64(1.0), np.float64(2.0)], np.arange(3.0)),
        *(np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2).T, np.array([True, False])),
        *((1, None), {1: b"\2\3"}, {1, 2}, Color.GREEN, Color.RED, {"Rgb": (1, 2, 3)}),
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        uuid.UUID("67e55044-10b1-426f-9247-bb680e5fe0c8"),
        *(np.arange(10_000.0).reshape(100, 100), np.asfortranarray(np.arange(10_000.0).reshape(100, 100))),
        {
            "data": np.arange(1000.0), "grid": np.ones((2, 2)), "more": {"a": {1, 2}}, "started": started, "jobs": jobs,
            "wait": datetime.timedelta(seconds=1.5), "path": Path("/tmp/x"), "name": "n", "unknown": [1],
        },
        256,
    ):  # fmt: skip
        there.put(value)
    assert back.get(timeout=PATIENCE) == "all well"
    assert started.wait(PATIENCE)
    assert jobs.get(timeout=PATIENCE) == "from everything"
    program.join(PATIENCE)
    assert program.exitcode == 0


def test_shared_objects_travel_inside_of_objects_of_any_size(echo: tuple[Any, Any]) -> None:
    there, back = echo
    queue, event, lock = procession.JoinableQueue(), procession.Event(), procession.Lock()
    there.put({"objects": [queue, event, lock, procession.Barrier(2)], "rest": list(range(1000)), "set": {1}})
    answer = back.get(timeout=PATIENCE)
    queue2, event2, lock2, _ = answer["objects"]
    event2.set()
    assert event.is_set()
    queue2.put("x")
    assert queue.get(timeout=PATIENCE) == "x"
    with lock2:
        assert not lock.acquire(block=False)
    np = pytest.importorskip("numpy")
    shared = procession.ndarray((2, 3))
    there.put([shared, {1}])
    again = back.get(timeout=PATIENCE)[0]
    again[1, 2] = 5
    assert isinstance(again, np.ndarray) and shared[1, 2] == 5
