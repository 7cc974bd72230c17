"""ctypes objects in shared memory, with a lock or without.

They lie in family memory, so they need no file, however big they are: an array of gigabytes is there at once, costs
what is written of it, and goes back to the machine with its last user, even a killed one. They can be sent to any
process of the family at any time and in any way, as an argument or through a queue: what arrives is the same memory.
(multiprocessing's can be handed over only at the start of a process.)

The objects without a lock are raw memory. Writes of different processes to the same place do not wait for each other,
and a process that is killed while it writes a big item may leave half of it.
"""

from __future__ import annotations

import ctypes

from . import context, process
from ._memory.block import Block
from ._memory.ctypes_types import in_block, plain_type, rebuild_ctype, reduce_ctype
from ._sync.synchronized import Synchronized, SynchronizedArray, SynchronizedBase, SynchronizedString, synchronized
from .process import _register_farewell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .context import BaseContext

for _function in (rebuild_ctype, reduce_ctype, synchronized):
    _function.__module__ = __name__  # where it is found, and what pickles call it

__all__ = [
    "Array",
    "RawArray",
    "RawValue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "rebuild_ctype",
    "reduce_ctype",
    "synchronized",
]

_register_farewell()

# those of the module array, and "c"
typecode_to_type = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


def RawValue(typecode_or_type: Any, *args: Any) -> Any:
    """A ctypes object in shared memory, without a lock.

    typecode_or_type: a ctypes type, or a letter as for the module `array` ("i" is a C int, "d" a double), or "c" for
    one byte. args: what the type is called with; without them all bytes are zero.

    TypeError: there is no such type. MemoryError: the machine or its control group has less memory left than it needs.
    """
    type_ = _type_of(typecode_or_type)
    obj = in_block(type_, Block(ctypes.sizeof(type_)))
    if args:
        obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: Any, size_or_initializer: int | Iterable[Any]) -> Any:
    """A ctypes array in shared memory, without a lock.

    size_or_initializer: how many items, all zero; or the items. Zeros cost nothing until they are overwritten, but the
    machine must have room for all of them.

    ValueError: a size below 0. TypeError, MemoryError: as for `RawValue`.
    """
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        items, length = None, size_or_initializer
    else:
        items = list(size_or_initializer)
        length = len(items)
    type_ = type_ * length
    array = in_block(type_, Block(ctypes.sizeof(type_)))
    if items:
        array[:] = items
    return array


def Value(typecode_or_type: Any, *args: Any, lock: Any = True, ctx: BaseContext | None = None) -> Any:
    """A ctypes object in shared memory, with a lock: a `Synchronized` or a relative of it. See `RawValue`.

    lock: True or None for a new `RLock`; a lock that is to be used; False for none, which is the same as `RawValue`.
    ctx: where a new lock is from. AttributeError: what was given as a lock is none.
    """
    return _with_lock(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: Any, size_or_initializer: int | Iterable[Any], *, lock: Any = True, ctx: BaseContext | None = None
) -> Any:
    """A ctypes array in shared memory, with a lock: a `SynchronizedArray`, of "c" a `SynchronizedString`.

    The arguments are those of `RawArray` and of `Value`.
    """
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """A new ctypes object in shared memory, with the contents of this one, which may be shared or not."""
    type_ = plain_type(obj)
    new = in_block(type_, Block(ctypes.sizeof(type_)))
    ctypes.memmove(ctypes.byref(new), ctypes.byref(obj), ctypes.sizeof(type_))
    return new


def _with_lock(obj: Any, lock: Any, ctx: BaseContext | None) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = (ctx or context._default_context.get_context()).RLock()
    elif not hasattr(lock, "acquire"):
        raise AttributeError(f"a lock has a method acquire(), and {lock!r} has none")
    return synchronized(obj, lock)


def _type_of(typecode_or_type: Any) -> Any:
    if not isinstance(typecode_or_type, str):
        return typecode_or_type
    try:
        return typecode_to_type[typecode_or_type]
    except KeyError:
        raise TypeError(
            f"bad typecode {typecode_or_type!r}: it must be one of {', '.join(typecode_to_type)}, or a ctypes type"
        ) from None


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
