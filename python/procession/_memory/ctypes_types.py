"""ctypes objects that lie in shared memory: their types, and the way they travel.

Such an object is of a subclass of the type that was asked for. The subclass adds one thing: pickle sends the object as
a handle of its memory, by whatever way, where an ordinary ctypes object is sent as a copy of its bytes.
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

_Simple = ctypes.c_int.__base__  # the base of the types of one value
_NATIVE, _FOREIGN = "__ctype_le__", "__ctype_be__"  # family memory needs a little-endian machine


class Shared:
    """What is added to a ctypes type."""

    __slots__ = ()

    _plain: CType
    _wrapper: Block

    def __init_subclass__(cls) -> None:
        """Not the business of the user's type, which may have one of its own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_ctype(self)

    # These make an ordinary object of its own, as they do with ctypes objects that are not shared.

    def __copy__(self) -> Any:
        return self._plain.from_buffer_copy(self)

    def __deepcopy__(self, memo: object) -> Any:
        return self._plain.from_buffer_copy(self)

    def __repr__(self) -> str:
        if self._plain.__base__ is _Simple:
            return f"{self._plain.__name__}({self.value!r})"  # type: ignore[attr-defined]
        return f"<{self._plain.__module__}.{self._plain.__qualname__} object at {id(self):#x}, shared>"


_types: WeakValueDictionary[CType, Any] = WeakValueDictionary()
_kept: list[CType] = []  # those that are used again and again


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
    """An object of that type whose bytes are those of the block. TypeError: it is not a ctypes type."""
    # a subclass of a type of the other byte order would be of this machine's
    if _is_foreign(plain):
        from ..reduction import ForkingPickler

        # not by `register`, which would make all queues slower: plain pickle cannot pickle these, and so asks for help
        ForkingPickler._extra_reducers.setdefault(plain, reduce_ctype)
        obj = plain.from_buffer(block)
    else:
        obj = _shared_type(plain).from_buffer(block)
    obj._wrapper = block
    return obj


def _is_foreign(plain: CType) -> bool:
    """Whether a type is of the other byte order. One of a single byte, such as `c_byte`, is of both, and so is not."""
    return getattr(plain, _FOREIGN, None) is plain and getattr(plain, _NATIVE, None) is not plain


def plain_type(obj: Any) -> CType:
    """The ctypes type of an object, as it was before it was shared."""
    return obj._plain if isinstance(obj, Shared) else type(obj)


def reduce_ctype(obj: Any) -> tuple[Any, ...]:
    """For pickle: the object as type and memory; one that is not in shared memory as a copy of its bytes."""
    block = getattr(obj, "_wrapper", None)
    if block is None:
        reduced: tuple[Any, ...] = obj.__reduce__()
        return reduced
    plain: Any = plain_type(obj)
    steps: list[int | str] = []
    # array types, and those of the other byte order, have no name by which pickle could find them
    while issubclass(plain, ctypes.Array) and plain is _array_of(plain):
        array: Any = plain
        steps.append(array._length_)
        plain = array._type_
    if _is_foreign(plain):
        steps.append(_FOREIGN)
        plain = getattr(plain, _NATIVE)
    return rebuild_ctype, (plain, block, tuple(reversed(steps)))


def _array_of(plain: Any) -> Any:
    """The type that `item type * length` makes: the same for all that ask for it so."""
    return plain._type_ * plain._length_


def rebuild_ctype(type_: CType, wrapper: Block, length: int | tuple[int | str, ...] | None) -> Any:
    """What `reduce_ctype` has described. length: of the array, or what to make of the type, from the inside out."""
    steps = () if length is None else (length,) if isinstance(length, int) else length
    for step in steps:
        type_ = getattr(type_, step) if isinstance(step, str) else type_ * step
    return in_block(type_, wrapper)
