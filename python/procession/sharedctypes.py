"""ctypes objects in shared memory, with a lock or without.

The objects lie in family memory. They need no file and can be of any size: an array of gigabytes exists at once, takes
only the memory that is written, and frees it when its last user has ended, also if that one was killed. They can be
sent to any process of the family at any time and in any way, as an argument or through a queue: the receiver gets the
same memory. (In multiprocessing only the start of a process can hand them over.)

Objects without a lock are raw memory. Writes of different processes to the same place do not wait for each other, and
a process that is killed while it writes a big item may leave a part of it written.
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
    from _ctypes import _CData
    from collections.abc import Iterable
    from typing import Any, Literal, TypeVar, overload

    from ._context_types import LockLike  # pyright: ignore[reportMissingModuleSource]
    from .context import BaseContext

    C = TypeVar("C", bound=_CData)
    T = TypeVar("T")

for _function in (rebuild_ctype, reduce_ctype, synchronized):
    _function.__module__ = __name__  # the public name, which pickles use

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

# the letters of the module `array`, and "c"
typecode_to_type: dict[str, type[ctypes._SimpleCData[Any]]] = {
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


if TYPE_CHECKING:

    @overload
    def RawValue(typecode_or_type: type[C], *args: Any, name: str | None = None) -> C: ...
    @overload
    def RawValue(typecode_or_type: str, *args: Any, name: str | None = None) -> Any: ...


def RawValue(typecode_or_type: Any, *args: Any, name: str | None = None) -> Any:
    """Makes a ctypes object in shared memory, without a lock.

    Args:
        typecode_or_type: a ctypes type, or a letter as for the module `array` ("i": a C int, "d": a double), or "c" for
            one byte.
        args: what the type is called with; without them all bytes are zero.
        name: for observers of the running program.

    Raises:
        TypeError: there is no such type.
        MemoryError: the machine or its control group has not enough memory left.
    """
    type_ = _type_of(typecode_or_type)
    obj = in_block(type_, Block(ctypes.sizeof(type_), name))
    if args:
        obj.__init__(*args)
    return obj


if TYPE_CHECKING:

    @overload
    def RawArray(
        typecode_or_type: type[C], size_or_initializer: int | Iterable[Any], *, name: str | None = None
    ) -> ctypes.Array[C]: ...
    @overload
    def RawArray(
        typecode_or_type: str, size_or_initializer: int | Iterable[Any], *, name: str | None = None
    ) -> Any: ...


def RawArray(typecode_or_type: Any, size_or_initializer: int | Iterable[Any], *, name: str | None = None) -> Any:
    """Makes a ctypes array in shared memory, without a lock.

    Args:
        typecode_or_type: the type of an item, as for `RawValue`.
        size_or_initializer: the number of items, all zero; or the items. Zeros take no memory until they are
            overwritten, but the machine must have room for all of them.
        name: for observers of the running program.

    Raises:
        ValueError: the number is below 0.
        TypeError, MemoryError: as for `RawValue`.
    """
    type_ = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        items, length = None, size_or_initializer
    else:
        items = list(size_or_initializer)
        length = len(items)
    type_ = type_ * length
    array = in_block(type_, Block(ctypes.sizeof(type_), name))
    if items:
        array[:] = items
    return array


if TYPE_CHECKING:

    @overload
    def Value(
        typecode_or_type: type[C],
        *args: Any,
        lock: Literal[False],
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> C: ...
    @overload
    def Value(
        typecode_or_type: str, *args: Any, lock: Literal[False], ctx: BaseContext | None = None, name: str | None = None
    ) -> Any: ...
    @overload
    def Value(
        typecode_or_type: type[ctypes._SimpleCData[T]],
        *args: Any,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> Synchronized[T]: ...
    @overload
    def Value(
        typecode_or_type: type[C],
        *args: Any,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> SynchronizedBase[C]: ...
    @overload
    def Value(
        typecode_or_type: str,
        *args: Any,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> Synchronized[Any]: ...
    @overload
    def Value(
        typecode_or_type: str | type[_CData],
        *args: Any,
        lock: bool | LockLike | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> Any: ...


def Value(
    typecode_or_type: Any, *args: Any, lock: Any = True, ctx: BaseContext | None = None, name: str | None = None
) -> Any:
    """Makes a ctypes object in shared memory, with a lock: a `Synchronized` or an object of a class like it.

    Args:
        typecode_or_type: as for `RawValue`.
        args: as for `RawValue`.
        lock: True or None: a new `RLock`; a lock: that one; False: none, as with `RawValue`.
        ctx: the context that makes a new lock.
        name: the name of the value and of a new lock, for observers of the running program.

    Raises:
        AttributeError: `lock` has no method `acquire`.

    Example:
        ```python
        import procession as mp

        def add(total, n):
            with total.get_lock():
                total.value += n

        if __name__ == "__main__":
            total = mp.Value("i", 0)
            adders = [mp.Process(target=add, args=(total, n)) for n in (1, 2, 3)]
            for adder in adders:
                adder.start()
            for adder in adders:
                adder.join()
            print(total.value)  # 6
        ```
    """
    return _with_lock(RawValue(typecode_or_type, *args, name=name), lock, ctx, name)


if TYPE_CHECKING:

    @overload
    def Array(
        typecode_or_type: type[C],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: Literal[False],
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> ctypes.Array[C]: ...
    @overload
    def Array(
        typecode_or_type: str,
        size_or_initializer: int | Iterable[Any],
        *,
        lock: Literal[False],
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> Any: ...
    @overload
    def Array(
        typecode_or_type: type[ctypes.c_char],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> SynchronizedString: ...
    @overload
    def Array(
        typecode_or_type: type[ctypes._SimpleCData[T]],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> SynchronizedArray[T]: ...
    @overload
    def Array(
        typecode_or_type: str,
        size_or_initializer: int | Iterable[Any],
        *,
        lock: LockLike | Literal[True] | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> SynchronizedArray[Any]: ...
    @overload
    def Array(
        typecode_or_type: str | type[_CData],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: bool | LockLike | None = True,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> Any: ...


def Array(
    typecode_or_type: Any,
    size_or_initializer: int | Iterable[Any],
    *,
    lock: Any = True,
    ctx: BaseContext | None = None,
    name: str | None = None,
) -> Any:
    """Makes a ctypes array in shared memory, with a lock: a `SynchronizedArray`, for "c" a `SynchronizedString`.

    The arguments are those of `RawArray` and of `Value`.

    Example:
        ```python
        import procession as mp

        def double(numbers):
            with numbers.get_lock():
                numbers[:] = [2 * n for n in numbers]

        if __name__ == "__main__":
            numbers = mp.Array("d", [1, 2, 3])
            child = mp.Process(target=double, args=(numbers,))
            child.start()
            child.join()
            print(numbers[:])  # [2.0, 4.0, 6.0]
        ```
    """
    return _with_lock(RawArray(typecode_or_type, size_or_initializer, name=name), lock, ctx, name)


def copy(obj: C, *, name: str | None = None) -> C:
    """Copies a ctypes object, shared or not, to a new one in shared memory. name: for observers of the program."""
    type_ = plain_type(obj)
    new = in_block(type_, Block(ctypes.sizeof(type_), name))
    ctypes.memmove(ctypes.byref(new), ctypes.byref(obj), ctypes.sizeof(type_))
    made: C = new
    return made


def _with_lock(obj: Any, lock: Any, ctx: BaseContext | None, name: str | None) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = (ctx or context._default_context.get_context()).RLock(name=name)
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
