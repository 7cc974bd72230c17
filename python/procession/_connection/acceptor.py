"""Accepts clients that have to prove who they are, several at a time.

A client that falls silent during its handshake must not make the others wait. So a listener carries on several
handshakes: each continues when there is something to read, and the client that finishes first is accepted first. All of
that happens within `accept`; nothing happens while no thread calls it.
"""

from __future__ import annotations

import os
import time

from .. import _core, util
from ..context import AuthenticationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator
    from socket import socket
    from typing import Any

    from .base import _ConnectionBase

__all__ = ["Acceptor"]

READ, WRITE = 1, 4  # POLLIN, POLLOUT
MOST = 128  # number of handshakes in progress; a further client takes the place of the oldest


class Acceptor:
    """The handshakes of a listening socket."""

    def __init__(self, listening: socket, authkey: bytes | None, tls: ssl.SSLContext | None) -> None:
        self._listening = listening
        self._authkey = authkey
        self._tls = tls
        self._peers: list[_Peer] = []
        self._turn = util.ForkAwareThreadLock()  # one thread at a time
        self._pid = 0

    def close(self) -> None:
        """Drops the clients whose handshakes are in progress."""
        peers, self._peers = self._peers, []
        for peer in peers:
            peer.close()

    def accept(self, patience: float) -> tuple[_ConnectionBase, Any]:
        """Returns the next connection whose handshake succeeds, and its address.

        patience: seconds that a handshake may take. AuthenticationError: one failed. TimeoutError (the built-in one):
        the listening socket has a timeout, and it has passed.
        """
        limit = self._listening.gettimeout()
        end = None if limit is None else time.monotonic() + limit
        with self._turn:
            if self._pid != os.getpid():
                # Other processes may accept from this socket too, and then `accept` must not block. And the handshakes
                # that were in progress when this process was forked belong to its parent.
                os.set_blocking(self._listening.fileno(), False)
                self.close()
                self._pid = os.getpid()
            while True:
                ready = self._await(end, patience)
                for peer in [self._peers[place - 1] for place in ready if place > 0]:
                    connection = self._advance(peer)
                    if connection is not None:
                        return connection, peer.address
                self._refuse_slow(patience, ready)
                if 0 in ready:
                    newcomer = self._welcome()
                    connection = None if newcomer is None else self._advance(newcomer)
                    if newcomer is not None and connection is not None:
                        return connection, newcomer.address
                    self._refuse_too_many()
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError("timed out")

    def _await(self, end: float | None, patience: float) -> list[int]:
        """Waits until the listening socket (0) or peers (1, ...) are ready. Returns these numbers."""
        number = self._listening.fileno()
        if number < 0:  # another thread has closed it
            raise OSError("listener is closed")
        listed = [(number, READ), *((peer.fileno(), peer.awaits) for peer in self._peers)]
        for peer in self._peers[:1]:  # the oldest
            end = peer.began + patience if end is None else min(end, peer.began + patience)
        return _core._poll(listed, None if end is None else max(0.0, end - time.monotonic()))

    def _welcome(self) -> _Peer | None:
        try:
            sock, address = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another process was faster, or the client has gone
            if self._is_shut_down():
                raise OSError("listener is closed") from None
            return None
        peer = _Peer(sock, address, self._authkey, self._tls)
        self._peers.append(peer)
        return peer

    def _is_shut_down(self) -> bool:
        """Returns whether the listening socket was shut down. A Unix socket is then always ready, without clients."""
        import select

        poll = select.poll()
        poll.register(self._listening, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _advance(self, peer: _Peer) -> _ConnectionBase | None:
        try:
            connection = peer.advance()
        except BaseException:
            self._drop(peer)
            raise
        if connection is not None:
            self._peers.remove(peer)
        return connection

    def _refuse_slow(self, patience: float, ready: list[int]) -> None:
        """Drops a peer whose time is over and that has sent nothing."""
        now = time.monotonic()
        for place, peer in enumerate(self._peers, 1):
            if now - peer.began >= patience and place not in ready:
                self._drop(peer)
                raise AuthenticationError(f"a client ({peer.address!r}) took more than {patience} s for its handshake")

    def _refuse_too_many(self) -> None:
        if len(self._peers) > MOST:
            peer = self._peers[0]
            self._drop(peer)
            raise AuthenticationError(f"a client ({peer.address!r}) was slow in its handshake, and {MOST} others came")

    def _drop(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
        peer.close()


class _Peer:
    """A client during its handshake."""

    def __init__(self, sock: socket, address: Any, authkey: bytes | None, tls: ssl.SSLContext | None) -> None:
        sock.setblocking(False)
        self.began = time.monotonic()
        self.address = address
        self.awaits = READ
        self._sock = sock
        self._talk = self._handshake(authkey, tls)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def advance(self) -> _ConnectionBase | None:
        """Continues as far as possible without waiting. Returns the connection when the handshake has succeeded.

        AuthenticationError: it has failed, in any way.
        """
        try:
            self.awaits = next(self._talk)
        except StopIteration as end:
            connection: _ConnectionBase = end.value
            return connection
        except EOFError:
            raise AuthenticationError(
                f"a client ({self.address!r}) closed the connection during its handshake"
            ) from None
        except OSError as error:  # those of ssl included
            raise AuthenticationError(f"the handshake of a client ({self.address!r}) failed: {error}") from error
        return None

    def _handshake(self, authkey: bytes | None, tls: ssl.SSLContext | None) -> Generator[int, None, _ConnectionBase]:
        """Yields the events to wait for; returns the connection."""
        if tls is not None:
            self._sock = tls.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
            yield from _unhindered(self._sock.do_handshake)
        if authkey is not None:
            handshake = _core.Handshake(authkey, True)
            try:
                while wants := handshake.wants():
                    yield from self._send(handshake.outgoing())
                    received = yield from _unhindered(self._sock.recv, wants)
                    if not received:
                        raise EOFError
                    handshake.feed(received)
            finally:
                # the last message, which may say that the handshake has failed
                yield from self._send(handshake.outgoing())
        if tls is not None:
            from .tls import TlsConnection

            return TlsConnection(self._sock)  # type: ignore[arg-type]  # wrapped above
        from ..connection import _connection_of

        return _connection_of(self._sock)

    def _send(self, message: bytes) -> Generator[int, None, None]:
        while message:
            sent = yield from _unhindered(self._sock.send, message)
            message = message[sent:]


def _unhindered(operation: Any, *args: Any) -> Generator[int, None, Any]:
    """Calls `operation`, again each time that the socket becomes ready; yields the events to wait for."""
    while True:
        try:
            return operation(*args)
        except BlockingIOError:
            yield READ if operation.__name__ == "recv" else WRITE
        except OSError as error:
            # compared by name: ssl is imported only by programs that use it
            kind = type(error).__name__
            if kind not in ("SSLWantReadError", "SSLWantWriteError"):
                raise
            yield READ if kind == "SSLWantReadError" else WRITE
