"""A client's connection to the shared objects of its cluster: prepares the scheduler, and starts the client's relay."""

from __future__ import annotations

import sys
from _thread import get_ident

from .. import connect
from . import call as calls
from . import relay, scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..members import Members
    from .call import Here
    from .relay import Relay

__all__ = ["ClientSide"]


class ClientSide:
    """What a client has made for shared objects."""

    def __init__(self, members: Members, client: Any) -> None:
        """Raises RuntimeError: the scheduler cannot be used, since its versions differ or it lacks Procession."""
        why = _why_not(client.run_on_scheduler(eval, connect.VERSIONS), members.address)
        if why is not None:
            raise RuntimeError(why)
        cluster: str = client.run_on_scheduler(scheduler.install)
        self._members = members
        self._relay: Relay = members.begin(relay.of_client(client, members.node_timeout)).result()
        self.here: Here = calls.Here(cluster, self._relay.address)
        self.here.loop_thread = members.begin(_thread_of_loop()).result()
        calls.set_here(self.here)

    def close(self, why: str) -> None:
        """Ends the connection. In the thread of the loop."""
        self.here.ended = why
        calls.forget(self.here)
        self._relay.close(why)


async def _thread_of_loop() -> int:
    return get_ident()


def _why_not(told: list[Any], address: str) -> str | None:
    """Returns why the scheduler cannot keep objects. told: the value of `connect.VERSIONS` there."""
    from ... import __version__

    python = ".".join(told[0])
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    what = f"the scheduler at {address} keeps the locks and queues of the cluster, and has"
    if told[1] is None:
        return f"{what} no Procession: install Procession {__version__} there"
    for name, there, here in (("Procession", told[1], __version__), ("Python", python, ours)):
        if there != here:
            return f"{what} {name} {there}, and this program {name} {here}: they must be the same"
    return None
