"""Blocks of family memory, which values, arrays and the heap use."""

from __future__ import annotations

from .. import _core

__all__ = ["Block"]


class Block(_core.Array):
    """A number of bytes that processes share, zero at first. It has the buffer protocol, writable.

    A block takes only the memory that is written. That is given back to the machine when no process has a reference or
    a view any more, also if processes were killed. It is pickled as a handle, at any time and to any process of the
    family.
    """

    def __init__(self, size: int, name: str | None = None) -> None:
        """Makes a block of `size` bytes. name: for observers of the running program.

        ValueError: `size` is below 0. MemoryError: the machine or its control group has not enough.
        """
        if size < 0:
            raise ValueError(f"a block of memory has 0 bytes or more, not {size}")
        _core.Array._create(self, size)
        if name is not None:
            _core.Array._label(self, str(name))

    def __reduce__(self) -> tuple[object, ...]:
        return _found, (type(self), _handle_of(self), len(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} bytes>"


_handle_of = _core.Array.handle.__get__


def _found(cls: type[Block], handle: bytes, size: int) -> Block:
    block = cls.__new__(cls)
    _core.Array._attach(block, handle, size)
    return block
