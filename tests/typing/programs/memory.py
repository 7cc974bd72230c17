"""Values and arrays in shared memory, as a typed program of a user has them."""

import ctypes
from typing import reveal_type

import procession as mp
from procession.sharedctypes import Synchronized, SynchronizedArray, SynchronizedString


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


def work(total: Synchronized[int], items: SynchronizedArray[float], text: SynchronizedString) -> None:
    with total.get_lock():
        total.value += 1
    with total:
        reveal_type(total.value)
    reveal_type(total.get_obj())
    reveal_type(total.acquire())
    reveal_type(items[0])
    reveal_type(items[1:2])
    reveal_type(len(items))
    items[0] = 1.5
    items[0:2] = [1.5, 2]
    reveal_type(items.get_obj())
    reveal_type(text.value)
    reveal_type(text.raw)
    reveal_type(text[0])
    # wrong values
    total.value = "three"  # error
    items[0] = "x"  # error
    items[0:2] = ["x"]  # error
    text.value = "text"  # error
    name: str = total.value  # error
    print(name)


def start() -> None:
    reveal_type(mp.Value("i", 1))
    reveal_type(mp.Value("i", 1).value)
    reveal_type(mp.Value(ctypes.c_int, 1))
    reveal_type(mp.Value(ctypes.c_double, 1, lock=True).value)
    reveal_type(mp.Value(ctypes.c_long, lock=mp.RLock()))
    reveal_type(mp.Value(Point, 1, 2))
    reveal_type(mp.Value(ctypes.c_int, 1, lock=False))
    reveal_type(mp.Array("d", 3))
    reveal_type(mp.Array(ctypes.c_double, [1, 2]))
    reveal_type(mp.Array(ctypes.c_double, [1, 2])[0])
    reveal_type(mp.Array(ctypes.c_char, b"text"))
    reveal_type(mp.Array(ctypes.c_double, 3, lock=False))
    reveal_type(mp.RawValue(ctypes.c_int, 1))
    reveal_type(mp.RawValue("i"))
    reveal_type(mp.RawArray(ctypes.c_int, 3))
    reveal_type(mp.RawArray("i", [1]))
    reveal_type(mp.get_context("spawn").Value(ctypes.c_int))
    work(mp.Value(ctypes.c_int), mp.Array(ctypes.c_double, 2), mp.Array(ctypes.c_char, 8))
    work(mp.Value("i"), mp.Array("d", 2), mp.Array(ctypes.c_char, 8))
    work(mp.Value(ctypes.c_char_p), mp.Array(ctypes.c_double, 2), mp.Array(ctypes.c_char, 8))  # error
    mp.Value(3)  # error
    mp.Array(ctypes.c_int)  # error
