"""Options of TCP sockets (man 7 tcp)."""

from __future__ import annotations

import socket

__all__ = ["prepare"]

# A peer whose machine or cable has gone is noticed after two minutes, also if this side only waits for messages.
_IDLE, _BETWEEN, _PROBES = 60, 10, 6


def prepare(sock: socket.socket) -> None:
    """Sets the options of a connection, if the socket is one of TCP."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # a message is sent with one call, so there is nothing to collect
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
