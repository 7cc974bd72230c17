"""Blocks of shared memory, by the names that they have in `multiprocessing.heap`.

There they are pieces of arenas, files that are mapped. Here family memory has an allocator of its own, so each is
simply a block of it, and this module is for programs that use those names.
"""

from __future__ import annotations

from ._memory.block import Block
from .process import _register_farewell, lending, yields

TYPE_CHECKING = False

__all__ = ["BufferWrapper"]

_register_farewell()


@yields("handle", "_key", "size", "buffer")
class Arena(Block):
    """A piece of shared memory of its own."""

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self)

    @property
    def buffer(self) -> memoryview:
        """The memory, for reading and writing."""
        return memoryview(self)


class Heap:
    """Gives out shared memory. It has no state: the allocator is in family memory, and the same for all processes."""

    def malloc(self, size: int) -> tuple[Arena, int, int]:
        """Zeros: an arena, and where in it they begin and end. ValueError: size is below 0. MemoryError: no room."""
        return Arena(size), 0, size

    def free(self, block: tuple[Arena, int, int]) -> None:
        """Nothing: the memory goes back when the last reference to its arena is gone, in whatever process."""


class BufferWrapper:
    """A piece of shared memory for whoever holds it; it goes back when nobody does any more. It can be sent
    anywhere.
    """

    _heap = Heap()

    def __init__(self, size: int) -> None:
        """size: in bytes; all zero. ValueError: below 0. MemoryError: no room."""
        self._state = BufferWrapper._heap.malloc(size), size

    def create_memoryview(self) -> memoryview:
        """The bytes, for reading and writing."""
        (arena, start, _), size = self._state
        return memoryview(arena)[start : start + size]


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
