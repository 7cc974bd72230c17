"""Connections through TLS."""

from __future__ import annotations

import io
import ssl
import struct
from _thread import allocate_lock
from contextlib import suppress

from .. import _core
from . import tcp
from .base import _ConnectionBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

__all__ = ["TlsConnection"]

READ, WRITE = 1, 4  # POLLIN, POLLOUT
CHUNK = 1 << 16
LONG = -1  # a short length with this value announces a long length
LONGEST = 1 << 62


class TlsConnection(_ConnectionBase):
    """A connection through TLS. Its messages are those of `Connection`.

    It cannot leave its process: the state of TLS can neither be pickled nor shared with a forked child.

    The socket does not block. The state, which two threads must not use at the same time, is locked for short times.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock.fileno())
        sock.setblocking(False)
        tcp.prepare(sock)
        self._sock = sock
        self._lock = allocate_lock()
        self._ahead = b""  # decrypted bytes that were not received yet
        self._ended = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TLS connection cannot be handed to another process: its keys and counters are this one's")

    def _unhindered(self, operation: Callable[..., T], *args: Any) -> T:
        while True:
            with self._lock:
                try:
                    return operation(*args)
                except ssl.SSLWantReadError:
                    awaited = READ
                except ssl.SSLWantWriteError:
                    awaited = WRITE
            _core._poll([(self.fileno(), awaited)], None)

    def _close(self) -> None:
        with self._lock:
            with suppress(OSError, ValueError):
                self._sock.unwrap()  # tells the other side that this is the end, without waiting for the answer
            self._sock.close()

    # --- sending ---

    def _send_bytes(self, buf: memoryview) -> None:
        short = len(buf) <= 0x7FFFFFFF
        head = struct.pack("!i", len(buf)) if short else struct.pack("!iQ", LONG, len(buf))
        if len(buf) <= CHUNK:
            self._send(memoryview(head + buf))
        else:
            self._send(memoryview(head))
            self._send(buf)

    def _send(self, rest: memoryview) -> None:
        while rest:
            sent = self._unhindered(self._sock.send, rest[:CHUNK])
            rest = rest[sent:]

    # --- receiving ---

    def _read(self, into: memoryview, begun: bool) -> None:
        """Fills the buffer."""
        done = min(len(into), len(self._ahead))
        into[:done] = self._ahead[:done]
        self._ahead = self._ahead[done:]
        while done < len(into):
            got = 0 if self._ended else self._unhindered(self._sock.recv_into, into[done:])
            if not got:
                self._ended = True
                if done or begun:
                    raise OSError("got end of file during message")
                raise EOFError
            done += got

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        head = bytearray(12)
        view = memoryview(head)
        self._read(view[:4], False)
        (size,) = struct.unpack_from("!i", head)
        if size == LONG:
            self._read(view[4:], True)
            (size,) = struct.unpack_from("!Q", head, 4)
        if not 0 <= size <= (LONGEST if maxsize is None else maxsize):
            return None
        message = io.BytesIO()
        piece = memoryview(bytearray(min(size, 1 << 20)))
        while size:  # piece by piece, so that memory is allocated for bytes that arrive, and not for the announced size
            part = piece[: min(size, len(piece))]
            self._read(part, True)
            message.write(part)
            size -= len(part)
        message.seek(0)
        return message

    def _ready(self) -> bool:
        """Returns whether there is something to receive, or the end. The descriptor alone does not tell this."""
        if not self._ahead and not self._ended:
            with self._lock:
                try:
                    self._ahead = self._sock.recv(CHUNK)
                    self._ended = not self._ahead
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return False
                except OSError:
                    self._ended = True
        return True

    def _poll(self, timeout: float | None) -> bool:
        from ..connection import wait

        return bool(wait([self], timeout))
