"""Types of ctypes objects that lie in shared memory, and how these objects are pickled.

Such an object is of a subclass of the requested type. The subclass adds one thing: the object is pickled as a handle of
its memory, at any time, while an ordinary ctypes object is pickled as a copy of its bytes.
"""

from __future__ import annotations

import ctypes
from weakref import WeakValueDictionary

from .block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    CType = Any  # a type of ctypes; its metaclass has no name in all Pythons

__all__ = ["Shared", "in_block", "plain_type", "rebuild_ctype", "reduce_ctype"]

_Simple = ctypes.c_int.__base__  # the base of the types with one value
_NATIVE, _FOREIGN = "__ctype_le__", "__ctype_be__"  # family memory needs a little-endian machine


class Shared:
    """The base class that is added to a ctypes type."""

    __slots__ = ()

    _plain: CType
    _wrapper: Block

    def __init_subclass__(cls) -> None:
        """Does nothing, so that the method of the user's type does not run for this subclass."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_ctype(self)

    # These make an ordinary object, as they do for ctypes objects that are not shared.

    def __copy__(self) -> Any:
        return self._plain.from_buffer_copy(self)

    def __deepcopy__(self, memo: object) -> Any:
        return self._plain.from_buffer_copy(self)

    def __repr__(self) -> str:
        if self._plain.__base__ is _Simple:
            return f"{self._plain.__name__}({self.value!r})"  # type: ignore[attr-defined]
        return f"<{self._plain.__module__}.{self._plain.__qualname__} object at {id(self):#x}, shared>"


_types: WeakValueDictionary[CType, Any] = WeakValueDictionary()
_kept: list[CType] = []  # the simple types, which are used often


def _shared_type(plain: CType) -> Any:
    found = _types.get(plain)
    if found is None:
        made: Any = type(plain)(plain.__name__, (Shared, plain), {"_plain": plain, "__module__": plain.__module__})
        made.__qualname__ = plain.__qualname__
        _types[plain] = found = made
        if plain.__module__ == "ctypes" and plain.__base__ is _Simple:
            _kept.append(made)
    return found


def in_block(plain: CType, block: Block) -> Any:
    """Makes an object of that type whose bytes are those of the block. TypeError: it is not a ctypes type."""
    # a subclass of a type of the other byte order would have the byte order of this machine
    if _is_foreign(plain):
        from ..reduction import ForkingPickler

        # `register` would make all queues slower. Plain pickle cannot pickle these objects, so it asks for this
        # reducer.
        ForkingPickler._extra_reducers.setdefault(plain, reduce_ctype)
        obj = plain.from_buffer(block)
    else:
        obj = _shared_type(plain).from_buffer(block)
    obj._wrapper = block
    return obj


def _is_foreign(plain: CType) -> bool:
    """Returns whether a type has the other byte order. A type of one byte, such as `c_byte`, has both: False."""
    return getattr(plain, _FOREIGN, None) is plain and getattr(plain, _NATIVE, None) is not plain


def plain_type(obj: Any) -> CType:
    """Returns the ctypes type of an object without the added base class."""
    return obj._plain if isinstance(obj, Shared) else type(obj)


def reduce_ctype(obj: Any) -> tuple[Any, ...]:
    """Reduces an object for pickle: to type and block, or to a copy of its bytes if it is not in shared memory."""
    block = getattr(obj, "_wrapper", None)
    if block is None:
        reduced: tuple[Any, ...] = obj.__reduce__()
        return reduced
    plain: Any = plain_type(obj)
    steps: list[int | str] = []
    # pickle finds no name for array types and for types of the other byte order
    while issubclass(plain, ctypes.Array) and plain is _array_of(plain):
        array: Any = plain
        steps.append(array._length_)
        plain = array._type_
    if _is_foreign(plain):
        steps.append(_FOREIGN)
        plain = getattr(plain, _NATIVE)
    return rebuild_ctype, (plain, block, tuple(reversed(steps)))


def _array_of(plain: Any) -> Any:
    """Returns the type `item type * length`, which ctypes makes once."""
    return plain._type_ * plain._length_


def rebuild_ctype(type_: CType, wrapper: Block, length: int | tuple[int | str, ...] | None) -> Any:
    """Makes the object that `reduce_ctype` reduced. length: the steps from the type to the array type, inside out."""
    steps = () if length is None else (length,) if isinstance(length, int) else length
    for step in steps:
        type_ = getattr(type_, step) if isinstance(step, str) else type_ * step
    return in_block(type_, wrapper)
