"""Connects to a listener within a time: from an address to a connection that can be used.

`acceptor` has the listener's side. A listener may accept late, so one time limit covers everything: until the socket is
connected (which a full backlog delays), until the other side answers, until both sides have proved that they know the
key.
"""

from __future__ import annotations

import time
from contextlib import suppress
from errno import ENOTCONN

from .. import _core
from ..context import AuthenticationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any, NoReturn

    from .base import _ConnectionBase

__all__ = ["connect"]

LONGEST = 1e8  # seconds; the system accepts no longer timeout


def connect(
    address: Any,
    family: str,
    authkey: bytes | None,
    tls: ssl.SSLContext | None,
    server_hostname: str | None,
    timeout: float | None,
) -> _ConnectionBase:
    """Does the work of `connection.Client`, and raises its errors."""
    from ..connection import _connection_of

    clock = _Clock(timeout)
    try:
        sock = connected(address, family, clock.left())
    except TimeoutError as error:
        clock.told(error, f"the listener at {address!r} did not accept")
    try:
        if tls is not None:
            sock.settimeout(clock.left())
            host = str(address[0]) if isinstance(address, tuple) else None
            sock = tls.wrap_socket(sock, server_hostname=server_hostname or host)
        if authkey is not None:
            _prove(sock, authkey, clock)
        if tls is None:
            return _connection_of(sock)
        from .tls import TlsConnection

        return TlsConnection(sock)
    except TimeoutError as error:
        sock.close()
        clock.told(error, f"the listener at {address!r} did not end its handshake")
    except BaseException:
        sock.close()
        raise


def connected(address: Any, family: str, timeout: float | None) -> Any:
    """Connects to the listener at that address. Returns a socket that blocks. TimeoutError: it took too long."""
    import socket

    sock = socket.socket(getattr(socket, family))
    try:
        if family == "AF_UNIX":
            _connect_unix(sock, address, timeout)
        else:
            sock.settimeout(timeout)  # the default timeout does not matter
            sock.connect(address)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_unix(sock: Any, address: Any, timeout: float | None) -> None:
    """Connects. (While the backlog is full, a Unix socket with a timeout of Python would fail at once.)"""
    import socket
    from struct import pack

    clock = _Clock(timeout)
    sock.settimeout(None)
    while True:
        left = clock.left()
        if left is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", int(left), int(left % 1 * 1e6) or 1))
        try:
            sock.connect(address)
            sock.getpeername()
        except BlockingIOError:
            raise TimeoutError("timed out") from None
        except OSError as error:
            if error.errno != ENOTCONN:
                raise
            continue  # a signal interrupted the wait, and Python took that for a connection
        if left is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", 0, 0))
        return


class _Clock:
    def __init__(self, timeout: float | None) -> None:
        self._timeout = None if timeout is None else min(timeout, LONGEST)
        self._began = time.monotonic()

    def left(self) -> float | None:
        """Returns the seconds that are left, always more than 0."""
        return None if self._timeout is None else max(self._timeout - (time.monotonic() - self._began), 1e-6)

    def told(self, error: TimeoutError, what: str) -> NoReturn:
        if error.errno is not None:  # ETIMEDOUT: the system's own time limit has passed, which may be shorter
            raise error
        raise TimeoutError(
            f"{what} within {self._timeout:g} s: it hangs or is busy (see the argument timeout of Client)"
        ) from None


def _prove(sock: Any, authkey: bytes, clock: _Clock) -> None:
    handshake = _core.Handshake(authkey, False)
    while wants := handshake.wants():
        _say(sock, handshake, clock)
        sock.settimeout(clock.left())
        received = sock.recv(wants)
        if not received:
            raise EOFError
        try:
            handshake.feed(received)
        except AuthenticationError:
            with suppress(OSError):
                _say(sock, handshake, clock)  # the last message, which says that the handshake has failed
            raise
    _say(sock, handshake, clock)


def _say(sock: Any, handshake: _core.Handshake, clock: _Clock) -> None:
    message = handshake.outgoing()
    if message:
        sock.settimeout(clock.left())
        sock.sendall(message)
