"""Managers whose objects the nodes of a cluster use.

The server runs on the client's machine and listens at the address under which the nodes reach that machine, with a
certificate made for it. A proxy that is sent to a node takes the certificate and the key of the manager along.
"""

from __future__ import annotations

import os

from .. import managers
from .._manager.proxies import BaseProxy, RebuildProxy
from . import certificate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["ClusterManager", "with_key"]


class ClusterManager(managers.SyncManager):
    """A `SyncManager` whose server the nodes reach.

    References that a node has end when its connection does: at once when a process of it ends, and when the system
    notices it (`KEEPALIVE`) after the node's machine or its cable has gone.
    """

    def __init__(self, home: str, ctx: Any, name: str | None = None) -> None:
        """home: the host name or number under which nodes reach this machine. ctx: the context of the server. name: of
        the server process.
        """
        server_side, self._client_side = certificate.make()
        super().__init__((home, 0), os.urandom(32), ctx=ctx, tls=server_side, name=name)

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Starts the server. See `BaseManager.start`."""
        super().start(initializer, initargs)
        # what proxies take along; the server has its own side
        self._procession_tls = self._client_side
        assert self._procession_remote is not None
        self._procession_remote.tls = self._client_side


def with_key(proxy: BaseProxy) -> Any:
    """Pickles a proxy for a node: with the key of its manager, which a process of a node does not have."""
    reduced = proxy.__reduce__()
    if reduced[0] is not RebuildProxy:  # a class of the program, which pickles itself
        return reduced
    rebuild, (kind, token, serializer, keywords) = reduced
    return rebuild, (kind, token, serializer, {**keywords, "authkey": bytes(proxy._authkey)})
