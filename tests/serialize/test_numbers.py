"""Long lists and tuples of numbers travel as arrays, and arrive as what they were."""

from __future__ import annotations

import math
import random
import struct

import pytest

import procession as mp
from deadlines import PATIENCE

LONG = 1000  # short ones are small trees
WIDTHS = [7, 8, 15, 16, 31, 32, 62, 63]


def there_and_back(queue, value):
    queue.put(value)
    got = queue.get(timeout=PATIENCE)
    assert type(got) is type(value) and list(map(type, got)) == list(map(type, value))
    return got


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("bits", WIDTHS)
def test_ints_of_every_width_arrive_as_they_were(kind, bits):
    queue = mp.Queue()
    for edge in (2**bits - 1, -(2**bits), 2**bits, -(2**bits) - 1):
        value = kind([0, 1, -1, edge] * (LONG // 4))
        assert there_and_back(queue, value) == value


@pytest.mark.parametrize("kind", [list, tuple])
def test_floats_arrive_bit_by_bit(kind):
    queue = mp.Queue()
    odd = [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308]
    odd += [struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]]  # a NaN with a message of its own
    value = kind(odd * (LONG // len(odd)))
    got = there_and_back(queue, value)
    assert [struct.pack("<d", x) for x in got] == [struct.pack("<d", x) for x in value]


class Number(int):
    pass


def test_mixed_and_other_items_arrive_as_they_were():
    queue = mp.Queue()
    for stranger in (1.5, True, None, Number(7), 2**63, -(2**63) - 1, "x", 2**100):
        for place in (0, LONG // 2, LONG - 1):
            value = list(range(LONG))
            value[place] = stranger
            assert there_and_back(queue, value) == value
    value = [0.5] * LONG
    value[-1] = 1
    assert there_and_back(queue, value) == value


def test_lists_of_any_length_arrive_whether_they_fit_into_a_queue_or_not():
    queue = mp.Queue()
    for length in (63, 64, 65, 66, 500, 4096, 70_000, 1_000_000):
        value = [random.getrandbits(63) for _ in range(length)]
        assert there_and_back(queue, value) == value


def test_a_list_that_arrives_is_an_ordinary_list():
    queue = mp.Queue()
    got = there_and_back(queue, list(range(LONG)))
    got.append("x")
    got[0] = got
    assert len(got) == LONG + 1 and got[0] is got


def negative(x):
    return -x


def half(x):
    return x / 2


def test_maps_of_numbers_have_the_results_of_map(context):
    for items in (range(5000), [x / 7 for x in range(5000)], [2**62 + x for x in range(5000)], [2**64] * 5000):
        with context.Pool(2) as pool:
            for function in (negative, half):
                assert pool.map(function, items) == list(map(function, items))


def test_dictionaries_and_managers_take_long_lists():
    shared = mp.SharedDict()
    shared["ints"], shared["floats"] = list(range(LONG)), tuple(map(float, range(LONG)))
    assert shared["ints"] == list(range(LONG)) and shared["floats"] == tuple(map(float, range(LONG)))
    with mp.Manager() as manager:
        assert manager.list(range(LONG))[:] == list(range(LONG))
