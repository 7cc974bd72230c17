"""Sends an object that the sender gives up, so that it need not be copied."""

from __future__ import annotations

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    T = object

    class Generic:
        __class_getitem__ = classmethod(lambda cls, _: cls)


__all__ = ["move"]

try:
    # in C, and importing it takes less time in each child than importing pickle
    from _pickle import loads
except ImportError:
    from pickle import loads


class move(Generic[T]):
    """Sends an object, alone or as a part of another, that the sender gives up: `queue.put(move(array))`.

    Arrays that this process has received through a queue lie in family memory already. A plain `put` copies them, since
    the sender may still write to its own. With `move` they are handed on without a copy, at any size. What is not in
    family memory is copied once, as by a plain `put`. The receiver gets the object itself, not this wrapper.

    If the sender writes to a moved array, the receiver sees the change. The memory is freed when both have no reference
    any more.
    """

    __slots__ = ("_obj",)

    def __init__(self, obj: T) -> None:
        """obj: any object that can be pickled. Errors of pickling are raised when it is sent."""
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        pickled, buffers = _core._dismantle(self._obj)
        return _assemble, (pickled, *buffers)

    def __repr__(self) -> str:
        return f"move({self._obj!r})"


def _assemble(pickled: bytes, *buffers: Sequence[int]) -> Any:
    return loads(pickled, buffers=buffers)


class BytesApart:
    """Long `bytes` while they are sent: pickled out of band, so they are copied once in and once out. They arrive as
    `bytes`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from pickle import PickleBuffer

        return bytes, (PickleBuffer(self.data),)
