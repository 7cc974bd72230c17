"""What the connections to nodes have in common: big buffers are sent to a node once, and clocks that stood still.

An array that a program gives to many calls is pickled by each of them, and would be sent each time. So from the second
call on that has a buffer of the same object, the data is known by its digest: a node that has data with this digest is
sent the digest alone. A program may change the array between two calls; then the digest is another one.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict
from contextlib import suppress
from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Common", "Kept", "Seen", "held_up", "named", "own"]

_LEAST = 1 << 16  # bytes of a buffer for which this is worth while
_MOST_SEEN = 4096  # buffers whose objects are remembered
_MOST_KEPT = 256 << 20  # bytes that a node keeps for a pool


async def held_up(seconds: float) -> bool:
    """Sleeps. Returns whether that took twice as long: this program was suspended, or its loop was held up.

    What others have sent meanwhile was not read then, so their silence says nothing.
    """
    before = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - before > 2 * seconds


class Common:
    """A buffer that may be kept by nodes."""

    __slots__ = ("__weakref__", "digest", "nbytes", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.nbytes = view.nbytes
        self.digest = blake2b(view, digest_size=20).digest()


def own(view: memoryview) -> memoryview:
    """Returns a buffer that the program cannot change: it is sent later, and the call has its values of now."""
    if type(view.obj) is bytes:
        return view
    return memoryview(bytearray(view))  # writable, as an array that is made of it is to be


class Seen:
    """The buffers of the calls so far, by the objects that they belong to."""

    def __init__(self) -> None:
        # weak references: another object may get the address of one that has gone
        self._seen: dict[tuple[int, int], Any] = {}
        # by digest, so that calls with the same data share a copy
        self._common: weakref.WeakValueDictionary[bytes, Common] = weakref.WeakValueDictionary()

    def marked(self, buffers: list[memoryview]) -> list[Any]:
        """Returns copies of the buffers of a call; those that an earlier call had, too, as `Common`."""
        return [self._mark(view) for view in buffers]

    def _mark(self, view: memoryview) -> Any:
        if view.nbytes < _LEAST:
            return own(view)
        key = id(view.obj), view.nbytes
        found = self._seen.get(key)
        if found is not None and found() is view.obj:
            common = Common(own(view))
            return self._common.setdefault(common.digest, common)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        with suppress(TypeError):  # an object to which there are no weak references
            self._seen[key] = weakref.ref(view.obj)
        return own(view)


class Kept:
    """What a node keeps, as its link knows. The oldest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        self._bytes = 0

    def messages(self, parts: list[Any]) -> Iterator[tuple[Any, ...]]:
        """Yields what the node must be told before it is sent a task with these parts."""
        for part in parts:
            if type(part) is not Common:
                continue
            if part.digest in self._kept:
                self._kept.move_to_end(part.digest)
                continue
            self._kept[part.digest] = part.nbytes
            self._bytes += part.nbytes
            yield "keep", part.digest, part.view
        while self._bytes > _MOST_KEPT and len(self._kept) > len(parts):
            digest, nbytes = self._kept.popitem(last=False)
            self._bytes -= nbytes
            yield "drop", digest


def named(parts: list[Any]) -> list[Any]:
    """Returns the parts of a task as they are sent: what the node keeps by its digest, in a tuple."""
    return [(part.digest,) if type(part) is Common else part for part in parts]
