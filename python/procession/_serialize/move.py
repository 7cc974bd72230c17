"""Giving up what one has, so that it can be sent without being copied."""

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
    # in C, and without the time that importing pickle takes in each child
    from _pickle import loads
except ImportError:
    from pickle import loads


class move(Generic[T]):
    """Sends an object, alone or as a part of another, that the sender does not use any more: `queue.put(move(array))`.

    Arrays that this process has itself received through a queue lie in family memory already. A plain `put` copies
    them, since the sender may go on to write in its own; moved, they are handed on as they are, however big. What is
    not in family memory is copied once, as by a plain `put`. The receiver gets the object itself, not this wrapper.

    What the sender still does to a moved array, the receiver sees: that is what giving up means. Nothing is unmapped
    under anybody's hands; the memory goes back when the last of both has let go.
    """

    __slots__ = ("_obj",)

    def __init__(self, obj: T) -> None:
        """obj: anything that can be pickled. TypeError and the like come when it is sent, as for a plain object."""
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        pickled, buffers = _core._dismantle(self._obj)
        return _assemble, (pickled, *buffers)

    def __repr__(self) -> str:
        return f"move({self._obj!r})"


def _assemble(pickled: bytes, *buffers: Sequence[int]) -> Any:
    return loads(pickled, buffers=buffers)


class BytesApart:
    """Long `bytes` on their way: pickled out of band, and so copied once in and once out. They arrive as `bytes`."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from pickle import PickleBuffer

        return bytes, (PickleBuffer(self.data),)
