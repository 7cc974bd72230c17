"""The hub in Dask's scheduler: its connections to relays, and what Dask knows of nodes and clients.

Each relay (one in each Dask worker, one in each client) has one comm, on which both sides write lists of messages:

    to the scheduler    ["began", process, pid, name]               a process has connected for the first time
                        ["open", channel, process, thread, ident, cluster]
                        ["hub", channel, body]                      a frame for the hub; see `wire`
                        ["close", channel]
                        ["ended", process, exit code]               a process has ended; all that it sent came before
    to the relay        ["hub", channel, body]
                        ["relay", op, ...]                          for the relay itself, see `Relay.from_hub`

A process's death is told by the relay, and a node's by Dask's `remove_worker`. The end of a comm alone frees nothing of
a node, since its processes may live: then the scheduler removes the Dask worker, which ends it, as Dask does when its
own stream to a worker breaks. So a node whose processes have lost the hub is no member any more, and a member never
loses what it holds. (To resume a comm, both sides would have to keep what the other may not have received; and Dask's
stream, between the same two hosts, ends for the same causes.) A client is a member as long as its comm is there.
"""

from __future__ import annotations

from contextlib import suppress

from .comm import over
from .hub import Hub, Owner
from .kinds import kinds
from .wire import HUB, packed, unpacked
from .writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FACTS", "HANDLER", "install"]

HANDLER = "procession_sync"  # the names of our handlers among those of the scheduler
FACTS = "procession_sync_facts"


def install(dask_scheduler: Any) -> str:
    """Prepares a scheduler, in its process; again: does nothing. Returns the id of the cluster."""
    if HANDLER not in dask_scheduler.handlers:
        service = _Service(dask_scheduler)
        dask_scheduler.handlers[HANDLER] = service.serve
        dask_scheduler.handlers[FACTS] = service.facts
        dask_scheduler.add_plugin(service.plugin(), name=HANDLER)
    cluster: str = dask_scheduler.id
    return cluster


class _Service:
    """All that the scheduler does for shared objects."""

    def __init__(self, dask_scheduler: Any) -> None:
        self.dask = dask_scheduler
        self.links: dict[str, Link] = {}  # by the address of a node or the id of a client
        self.asked: dict[tuple[Owner, int], tuple[Link, int]] = {}  # whence a request came: the relay and its channel
        self.spoken: set[Link] = set()  # those to which there is something to write
        self.hub = Hub(self._send, kinds(), tell=self._tell)

    def plugin(self) -> Any:
        """Returns the plugin that is told of the ends of nodes and clients."""
        from distributed import SchedulerPlugin

        service = self

        class Ends(SchedulerPlugin):
            def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
                service.ended(worker)

            def remove_client(self, scheduler: Any, client: str) -> None:
                service.ended(client)

        return Ends()

    async def facts(self, comm: Any = None) -> dict[str, Any]:
        """Answers `procession why --cluster`."""
        return self.hub.facts()

    def ended(self, node: str) -> None:
        """Notes that a node or client is no member any more."""
        link = self.links.pop(node, None)
        if link is not None:
            link.end()
        self.hub.node_ended(node)

    def _send(self, owner: Owner, number: int, answer: list[Any]) -> None:
        link, channel = self.asked.pop((owner, number), (None, 0))
        if link is not None:
            link.say(["hub", channel, packed([number, answer])])

    def flush(self) -> None:
        """Writes all answers now, and not at the end of this turn of the loop."""
        while self.spoken:
            # An error ends that link, and its reader is told. It is not one of the link whose requests are answered.
            with suppress(Exception):
                self.spoken.pop().flush()

    def _tell(self, node: str, message: list[Any]) -> None:
        link = self.links.get(node)
        if link is not None:
            link.say(["relay", *message])

    async def serve(self, comm: Any, *, node: str, name: str, is_client: bool) -> Any:
        """Serves a relay until its comm ends."""
        from distributed.core import Status

        if node not in (self.dask.clients if is_client else self.dask.workers) or node in self.links:
            comm.abort()
            return Status.dont_reply
        link = self.links[node] = Link(self, comm, node, name)
        try:
            await link.run()
        finally:
            if self.links.get(node) is link:
                if is_client:
                    self.ended(node)
                else:
                    await self.dask.remove_worker(node, stimulus_id="procession-sync-lost")
        return Status.dont_reply


class Link:
    """The comm of one relay."""

    def __init__(self, service: _Service, comm: Any, node: str, name: str) -> None:
        self._service = service
        self._hub = service.hub
        self._comm = comm
        self._node = node
        self._name = name
        self._owners: dict[int, Owner] = {}  # by channel
        self._writer = Writer()
        self._has_ended = False

    async def run(self) -> None:
        """Reads until the comm ends."""
        try:
            self._comm = await over(self._comm, at_scheduler=True)
            if self._has_ended:
                return
            self._writer.open(self._comm)
            await self._comm.run(self._take_all)
        except OSError:  # CommClosedError is one
            pass
        finally:
            self._comm.abort()

    def _take_all(self, messages: list[Any]) -> None:
        if self._has_ended:  # while the socket was taken over, or between a read and its handling
            raise ConnectionError("the relay is no member any more")
        for message in messages:
            getattr(self, f"_on_{message[0]}")(*message[1:])
        self._service.flush()

    def end(self) -> None:
        """Closes the comm: the relay is no member any more."""
        self._has_ended = True
        self._comm.abort()

    def say(self, message: list[Any]) -> None:
        """Sends a message to the relay."""
        self._writer.say(message)
        self._service.spoken.add(self)

    def flush(self) -> None:
        """Sends what was said now."""
        self._writer.flush()

    def _on_began(self, process: int, pid: int, name: str) -> None:
        self._hub.process_began(self._node, process, pid, name, self._name)

    def _on_open(self, channel: int, process: int, thread: int, ident: int, cluster: str) -> None:
        if cluster != self._service.dask.id:
            text = (
                f"the object is of another cluster than that of {self._name}, or of a scheduler that has ended, and its"
                " objects with it"
            )
            self.say(["hub", channel, packed([0, ["lost", text]])])
            return
        self._owners[channel] = Owner(self._node, process, thread)
        known = self._hub.processes.get((self._node, process))
        if known is not None:
            known.threads[thread] = ident

    def _on_hub(self, channel: int, body: bytes) -> None:
        owner = self._owners.get(channel)
        if owner is None:
            return
        try:
            self._take(owner, channel, *unpacked(memoryview(body)[len(HUB) :]))
        except Exception as error:  # a process has sent what is no request
            del self._owners[channel]
            self.say(["hub", channel, packed([0, ["lost", f"the scheduler cannot read a request: {error}"]])])

    def _take(
        self, owner: Owner, channel: int, number: int, found: int, op: str, args: list[Any], limited: int = False
    ) -> None:
        if op == "cancel":
            self._hub.cancel(owner, args[0])
        elif op == "refer":
            for what, each in args:
                self._hub.refer(owner[:2], what, each)
        else:
            if number:
                self._service.asked[owner, number] = self, channel
            self._hub.request(owner, number, found, op, args, limited)

    def _on_close(self, channel: int) -> None:
        """The thread has ended, or the program was interrupted twice. Its requests have no effect any more."""
        owner = self._owners.pop(channel, None)
        known = None if owner is None else self._hub.processes.get(owner[:2])
        if owner is not None and known is not None and owner not in self._owners.values():
            known.threads.pop(owner.thread, None)
        asked = self._service.asked
        for key in [key for key, value in asked.items() if value == (self, channel)] if owner else ():
            self._hub.cancel(*key)
            asked.pop(key, None)

    def _on_ended(self, process: int, exitcode: int | None) -> None:
        asked = self._service.asked
        for key in [key for key in asked if key[0][:2] == (self._node, process)]:
            del asked[key]
        self._hub.process_ended(self._node, process, exitcode)
