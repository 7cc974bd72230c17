"""Lists of messages over a comm of Dask.

Over TCP, with TLS or without, messages are packed by msgpack one after the other and go directly through the stream of
the comm, which Dask has connected, encrypted and authenticated. Each side reads as much as there is at once. The comm's
own `write` and `read` put a header with the sizes of frames before each list, which is read in two waits, and look for
objects to pickle: a message there and back takes three times as much CPU time. Over other comms (websockets), these are
used. Both sides decide alike, since they have ends of the same connection.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, Protocol

    class Comm(Protocol):
        """What both kinds have. OSError: the comm has ended."""

        async def read(self) -> list[Any]:
            """Waits for messages."""

        def write(self, messages: list[Any]) -> Awaitable[Any] | None:
            """Writes messages. Returns what is to be awaited, if anything."""

        def abort(self) -> None:
            """Ends the comm."""


__all__ = ["Comm", "over"]

_PIECE = 1 << 18  # bytes of a read


def over(comm: Any) -> Comm:
    """Returns the messages of a comm, which is used for nothing else from now on."""
    from distributed.comm.tcp import TCP

    return _OverStream(comm) if isinstance(comm, TCP) else comm


class _OverStream:
    def __init__(self, comm: Any) -> None:
        import msgpack  # type: ignore[import-untyped]

        self._comm = comm
        self._stream = comm.stream
        self._pack = msgpack.Packer().pack
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)
        if self._stream is None:
            raise ConnectionError("the connection has ended")
        self.abort = comm.abort

    async def read(self) -> list[Any]:
        unpacker = self._unpacker
        while True:
            unpacker.feed(await self._stream.read_bytes(_PIECE, partial=True))
            found = list(unpacker)
            if found:
                return found

    def write(self, messages: list[Any]) -> None:
        self._stream.write(b"".join(map(self._pack, messages)))
