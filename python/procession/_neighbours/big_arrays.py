"""Big numpy arrays in the arguments of joblib's tasks: they lie in family memory once, for all tasks of a call.

joblib's own backends write such arrays to files that workers map. Here a worker gets a view of shared memory. What a
worker may do with it says joblib's `mmap_mode`, as there: "r" only to read, "r+" and "w+" also to write, which other
tasks see; "c" and None are copies of its own.

An array that the program has mapped from a file itself (`numpy.memmap`) arrives as a map of the same file.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pickle import PickleBuffer
from threading import Lock

import numpy as np

from ..queues import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._core import SharedBytes

__all__ = ["BigArrays"]

# The number of bytes up to which a read-only array is copied into the pickle, because it then arrives writable.
SMALL = 64 << 10


class BigArrays:
    """The arrays of one call of `Parallel` that lie in family memory, while the program has them."""

    def __init__(self, limit: int | None, mode: str | None) -> None:
        """limit: number of bytes above which an array is shared; None: none is. mode: joblib's `mmap_mode`."""
        self._limit = limit if mode in ("r", "r+", "w+") else None
        self._writable = mode != "r"
        # by the id of the program's array; an entry goes with its array
        self._shared: dict[int, tuple[weakref.ref[Any], SharedBytes]] = {}
        # what is put into it comes back as a buffer of family memory
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._turn = Lock()  # held from the put to the get, or a thread would get the buffer of another one

    def reducers(self) -> dict[Any, Callable[[Any], Any]]:
        """Returns the reducers for pickle."""
        return {np.ndarray: self._reduce, np.memmap: self._reduce}

    def _reduce(self, array: Any) -> Any:
        mapped = _map_behind(array)
        if mapped is not None:
            return _map_again, _place_in_file(array, mapped)
        limit = self._limit
        if limit is not None and array.nbytes > limit and not array.dtype.hasobject and type(array) is np.ndarray:
            order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
            return _view, (self._in_shared_memory(array, order), array.dtype, array.shape, order, self._writable)
        if not array.flags.writeable and array.nbytes <= SMALL:
            return array.__reduce__()
        return array.__reduce_ex__(5)

    def _in_shared_memory(self, array: Any, order: str) -> SharedBytes:
        known = self._shared.get(id(array))
        if known is not None and known[0]() is array:
            return known[1]
        contiguous: Any = array if order == "F" else np.ascontiguousarray(array)
        with self._turn:
            self._queue.put(PickleBuffer(contiguous))
            shared: SharedBytes = self._queue.get()
        key, arrays = id(array), self._shared
        # The next array may have the same id: only the entry of this one goes.
        gone = weakref.ref(array, lambda ref: arrays.pop(key, None) if arrays.get(key, (None,))[0] is ref else None)
        arrays[key] = gone, shared
        return shared


def _map_behind(array: Any) -> Any:
    """Returns the `numpy.memmap` of a named file whose memory this array is, or is a part of; None if there is none."""
    while isinstance(array, np.ndarray):
        base: Any = array.base
        if isinstance(base, mmap.mmap):
            named = isinstance(array, np.memmap) and isinstance(array.filename, str | os.PathLike)
            return array if named else None
        array = base
    return None


def _place_in_file(array: Any, mapped: Any) -> tuple[Any, ...]:
    """Returns the arguments of `_map_again` for an array that is a part of `mapped`."""
    address = array.__array_interface__["data"][0]
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)] if array.size else []
    low = address + sum(step for step in reach if step < 0)
    high = address + sum(step for step in reach if step > 0) + array.itemsize
    mode = "r+" if mapped.mode == "w+" else mapped.mode
    at = mapped.offset + low - mapped.__array_interface__["data"][0]
    place = (os.fspath(mapped.filename), mode, at, high - low, address - low)
    return *place, array.dtype, array.shape, array.strides, array.flags.writeable


# --- unpickling: pickles name these functions ---


def _view(shared: Any, dtype: Any, shape: tuple[int, ...], order: Any, writable: bool) -> Any:
    array = np.ndarray(shape, dtype, buffer=shared, order=order)
    array.flags.writeable = writable
    return array


def _map_again(
    name: str,
    mode: str,
    at: int,
    length: int,
    first: int,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    writable: bool,
) -> Any:
    if not length or 0 in shape:
        return np.empty(shape, dtype)
    whole = np.memmap(name, np.uint8, mode, at, (length,))  # type: ignore[call-overload]
    one = whole[first : first + dtype.itemsize].view(dtype)
    array = np.lib.stride_tricks.as_strided(one, shape, strides, subok=True)
    if not writable:
        array.flags.writeable = False
    return array
