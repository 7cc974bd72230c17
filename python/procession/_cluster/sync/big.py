"""Big messages of queues, in the relay of the node whose process has put them.

They do not go through the scheduler. The process leaves the parts of a message with its relay, under a number that it
uses once, and puts this number into the queue. The consumer's relay fetches the parts directly from there. The hub says
when a message was received, and which messages of a process that has ended are in queues: the others are dropped.

Messages of a process to its relay:

    keep    key, parts              the parts of a message that it puts with the next frame
    fetch   number of the request, node, process, key
                                    the answer, parts or None, comes as one of the hub

Messages of the hub to a relay:

    drop    process, key            the message was received, or not put
    ended   process, keys           the process has ended; messages with these keys are in queues
"""

from __future__ import annotations

import asyncio

from ..frames import packed as for_comm
from .wire import packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .relay import Local, Relay

__all__ = ["HANDLER", "Big"]

HANDLER = "procession_message"  # the name of our handler among those of a Dask worker

_PATIENCE = 0.5  # seconds after which a consumer is told that a message has not come yet
_LEFT = 30.0  # seconds that a message waits for a consumer that has asked for it
_AGAIN = 0.2  # seconds until a node that does not answer is asked again


class Big:
    """The big messages at one node."""

    def __init__(self, relay: Relay, node: str, rpc: Any) -> None:
        """node: the address of this node, or the id of a client. rpc: Dask's pool of connections to nodes."""
        self._relay = relay
        relay.from_hub.update(drop=self.drop, ended=self.ended)
        relay.from_process.update(keep=self._keep, fetch=self._fetch)
        self._node = node
        self._rpc = rpc
        self._kept: dict[int, dict[int, list[Any]]] = {}  # the parts by process and key
        # what is being fetched, by the process that wants it, the node, the process that has put it, and the key
        self._fetches: dict[tuple[int, str, int, int], asyncio.Future[Any]] = {}

    def serve_others(self, dask_worker: Any) -> None:
        """Lets the relays of other nodes fetch messages from here."""
        dask_worker.handlers[HANDLER] = self.serve

    def _keep(self, local: Local, key: int, parts: list[Any]) -> None:
        self._kept.setdefault(local.process, {})[key] = parts

    def _fetch(self, local: Local, number: int, node: str, process: int, key: int) -> None:
        async def answer() -> None:
            parts = await self.get(local.process, node, process, key)
            local.send(packed([number, ["ok", parts]]))

        self._relay.begin(answer())

    def drop(self, process: int, key: int) -> None:
        """Drops a message: it was received, or was not put."""
        kept = self._kept.get(process)
        if kept is not None and kept.pop(key, None) is not None and not kept:
            del self._kept[process]

    def ended(self, process: int, keys: list[int]) -> None:
        """Drops the messages of a process that has ended, except those that are in queues, and what it was to get."""
        for key in set(self._kept.get(process, ())) - set(keys):
            self.drop(process, key)
        for wanted in [wanted for wanted in self._fetches if wanted[0] == process]:
            self._fetches.pop(wanted).cancel()

    async def get(self, consumer: int, node: str, process: int, key: int) -> list[Any] | None:
        """Returns the parts of a message at any node. None: it cannot be had now; the consumer may ask again.

        This takes at most a moment, so that a consumer that is interrupted, or has a deadline, does not wait for long.
        """
        if node == self._node:
            return self._kept.get(process, {}).get(key)
        wanted = consumer, node, process, key
        fetch = self._fetches.get(wanted)
        if fetch is None:
            fetch = self._fetches[wanted] = asyncio.ensure_future(self._fetched(node, process, key))
            # The consumer may not ask again: it was interrupted, and another one has got the message.
            later = asyncio.get_running_loop().call_later
            fetch.add_done_callback(lambda _: later(_LEFT, self._fetches.pop, wanted, None))
        await asyncio.wait((fetch,), timeout=_PATIENCE)
        if not fetch.done():
            return None
        self._fetches.pop(wanted, None)
        return None if fetch.cancelled() else fetch.result()

    async def _fetched(self, node: str, process: int, key: int) -> list[Any] | None:
        try:
            found: list[Any] | None = await getattr(self._rpc(node), HANDLER)(process=process, key=key)
        except Exception:  # of the connection, or what was raised on the other node, of any class
            await asyncio.sleep(_AGAIN)
            return None
        return None if found is None else list(found)

    async def serve(self, comm: Any, process: int, key: int) -> Any:
        """Answers the relay of another node. A handler of the Dask worker."""
        parts = self._kept.get(process, {}).get(key)
        return None if parts is None else for_comm([tuple(parts)])[0]

    def facts(self) -> tuple[int, int]:
        """Returns how many messages there are, and their bytes."""
        every = [parts for kept in self._kept.values() for parts in kept.values()]
        return len(every), sum(len(part) for parts in every for part in parts)
