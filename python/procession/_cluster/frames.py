"""Messages of a link, in the form in which a comm of Dask takes them.

A comm packs plain objects (msgpack) and takes big buffers beside them without a copy, as frames of its serialisation
family "dask". The family "pickle" is never used: neither side unpickles what it receives.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["packed", "safe", "size", "writable"]

_BIG = 1 << 15  # bytes from which a buffer goes beside the message


def packed(messages: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Returns messages in which big buffers are marked for a comm."""
    return [tuple(map(_part, message)) for message in messages]


def _part(part: Any) -> Any:
    kind = type(part)
    if kind is bytes:
        return part if len(part) < _BIG else _beside(part)
    if kind in _PLAIN:
        return part
    try:
        view = memoryview(part)
    except TypeError:
        return part
    if view.nbytes < _BIG:
        return bytes(view)
    return _beside(view if view.ndim == 1 and view.format == "B" else view.cast("B"))


def _beside(part: Any) -> Any:
    from distributed.protocol.serialize import to_serialize

    return to_serialize(part)  # type: ignore[no-untyped-call, unused-ignore]


_PLAIN = frozenset((int, str, bool, float, tuple, list, type(None)))


def writable(buffers: Iterable[Any]) -> list[Any]:
    """Returns buffers so that arrays which are made of them can be written to, as on one machine.

    Small ones have come as bytes; and numpy shows an array of a read-only buffer without elements as read-only.
    """
    return [bytearray(buffer) if type(buffer) is bytes or not len(buffer) else buffer for buffer in buffers]


def safe(text: str | None) -> Any:
    """Returns a text that a comm can send: one of `os.fsdecode` may contain surrogates, which are shown as escapes."""
    return text if text is None else text.encode("utf-8", "backslashreplace").decode()


def size(parts: Any) -> int:
    """Returns the number of bytes of a pickle and its buffers."""
    total = 0
    for part in parts:
        total += len(part) if type(part) is bytes else part.nbytes
    return total
