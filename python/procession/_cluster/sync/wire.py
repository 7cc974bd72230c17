"""Frames between a process, the relay of its machine and the scheduler.

Between a process and the relay each frame is a length of four bytes (little-endian) and a body. A process has one or
more connections (*channels*). The first byte of a body says who reads the rest:

    HUB     the scheduler. To it: the message [number, object, op, arguments, limit]; the last one may be missing. It
            is True if the wait has a limit, or IN_LOOP if a task of an event loop waits without one.
            From it: [number, answer]; see `hub`. `number` 0: a message without an answer
    RELAY   the relay itself: a message [op, ...]; see `relay`

A message is packed by msgpack, which comes with Dask and is imported on use: this package works without both. The relay
passes the frames of the scheduler on as they are, with the number of the channel.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["AT_CLIENT", "AT_NODE", "HUB", "IN_LOOP", "LENGTH", "RELAY", "framed", "packed", "unpacked"]

LENGTH = Struct("<I")
HUB, RELAY = b"h", b"r"
IN_LOOP = 2
# How the addresses of relays begin: abstract sockets of unix(7). A client's relay keeps no big messages.
AT_NODE, AT_CLIENT = "\0procession-node-", "\0procession-client-"


def packed(message: Any) -> bytes:
    """Packs plain data."""
    import msgpack  # type: ignore[import-untyped]

    packer: Any = msgpack.packb
    data: bytes = packer(message)
    return data


def unpacked(data: Any) -> Any:
    """Unpacks what `packed` has packed."""
    import msgpack

    return msgpack.unpackb(data, strict_map_key=False, use_list=True)


def framed(kind: bytes, body: bytes) -> bytes:
    """Returns a frame. kind: HUB or RELAY."""
    return LENGTH.pack(1 + len(body)) + kind + body
