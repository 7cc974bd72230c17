"""Blocks of shared memory under their names in `multiprocessing.heap`.

There they are pieces of arenas, which are mapped files. Here family memory has its own allocator, and each arena is one
block of it. The module exists for programs that use those names.
"""

from __future__ import annotations

from ._memory.block import Block
from .process import _register_farewell, lending, yields

TYPE_CHECKING = False

__all__ = ["BufferWrapper"]

_register_farewell()


@yields("handle", "_key", "size", "buffer")
class Arena(Block):
    """A block of shared memory."""

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self)

    @property
    def buffer(self) -> memoryview:
        """The memory, for reading and writing."""
        return memoryview(self)


class Heap:
    """Gives out shared memory. It has no state: the allocator is in family memory and serves all processes."""

    def malloc(self, size: int) -> tuple[Arena, int, int]:
        """Returns an arena of zeros with start and end. ValueError: `size` is below 0. MemoryError: no memory left."""
        return Arena(size), 0, size

    def free(self, block: tuple[Arena, int, int]) -> None:
        """Does nothing: the memory is freed when no process has a reference to its arena any more."""


class BufferWrapper:
    """A piece of shared memory. It is freed when no process has a reference to it any more. It can be sent to other
    processes.
    """

    _heap = Heap()

    def __init__(self, size: int) -> None:
        """size: in bytes, all zero. ValueError: it is below 0. MemoryError: no memory left."""
        self._state = BufferWrapper._heap.malloc(size), size

    def create_memoryview(self) -> memoryview:
        """Returns the bytes, for reading and writing."""
        (arena, start, _), size = self._state
        return memoryview(arena)[start : start + size]


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
