"""The relay of a machine: passes frames between its processes and the scheduler.

A relay lives in a process that has a loop of Dask: in each Dask worker, and in each client. It listens at a Unix socket
with a random name in the abstract namespace, to which the processes of that machine connect: workers of pools,
processes of the cluster, their children, and the client's program itself. Only processes of the same user are served.
The relay connects to the scheduler when the first process connects.

It does not look into messages for the hub, and watches processes by pidfd: that a socket is closed is no proof that the
process has ended, and a forked child may keep one open. When a process has ended, the relay first passes on what it had
sent, and then tells the scheduler.

Messages for the relay itself, lists: the first frame of a connection is

    hello   pid, thread, ident, name of the process, id of the cluster

Further ones, of processes and of the hub, are those of `big`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import select
import socket
from contextlib import suppress
from struct import Struct

from .. import connect
from .big import Big
from .comm import over
from .exit_code import exit_code
from .wire import AT_CLIENT, AT_NODE, HUB, LENGTH, RELAY, framed, packed, unpacked
from .writer import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["Relay", "address_of", "of_client", "of_worker"]

_CREDENTIALS = Struct("iII")  # struct ucred of unix(7): pid, user, group
_PEER_PIDFD = 77  # SO_PEERPIDFD of unix(7)


class Relay:
    """The relay of a Dask worker or a client."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], hello: dict[str, Any], scheduler: str, lost: Callable[[], None]
    ) -> None:
        """connect: opens a comm to the scheduler. hello: the arguments of its handler. scheduler: its address. lost: is
        called when the comm ends by itself."""
        self.address = (AT_CLIENT if hello["is_client"] else AT_NODE) + secrets.token_hex(16)
        self.scheduler = scheduler
        self.channels: dict[int, Local] = {}
        # what else it does: for messages of the hub (arguments: the rest of the message), and of processes (`Local`,
        # the rest of the message)
        self.from_hub: dict[str, Callable[..., None]] = {}
        self.from_process: dict[str, Callable[..., None]] = {}
        self._connect = connect
        self._hello = hello
        self._on_lost = lost
        self._processes: dict[int, Watched] = {}  # by pid
        self._last_process = self._last_channel = 0
        self._comm: Any = None
        self._server: Any = None
        self._reading: Any = None
        self._writer = Writer()
        self._tasks: set[Any] = set()
        self._lost: str | None = None

    async def start(self) -> str:
        """Begins to listen. Returns the address."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Local(self), self.address)
        return self.address

    def close(self, why: str) -> None:
        """Ends the relay: all processes are told why."""
        if self._lost is not None:
            return
        self._lost = why
        if self._server is not None:
            self._server.close()
        for channel in list(self.channels.values()):
            channel.refuse(why)
        for watched in list(self._processes.values()):
            watched.close()
        self._processes.clear()
        if self._reading is not None:
            self._reading.cancel()
        if self._comm is not None:
            self._comm.abort()

    # --- the scheduler ---

    def say(self, message: list[Any]) -> None:
        """Sends a message to the scheduler."""
        self._writer.say(message)

    def flush(self) -> None:
        """Sends what was said now, and not at the end of this turn of the loop."""
        self._writer.flush()

    def begin(self, work: Any) -> Any:
        """Runs a coroutine."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self) -> None:
        """Connects to the scheduler, and passes on what comes from there."""
        from .scheduler import HANDLER

        try:
            comm = await self._connect()
            await comm.write({"op": HANDLER, "reply": False, **self._hello})
            self._comm = comm
            self._comm = messages = await over(comm, at_scheduler=False)
            self._writer.open(messages)
            await messages.run(self._take)
        except Exception as error:
            if self._lost is None:
                how = "has gone" if isinstance(error, OSError) else f"has sent what cannot be read: {error!r}"
                self.close(f"the scheduler at {self.scheduler} {how}")
                self._on_lost()
        finally:
            if self._comm is not None:
                self._comm.abort()

    def _take(self, messages: list[Any]) -> None:
        for kind, which, *rest in messages:
            if kind == "hub":
                found = self.channels.get(which)
                if found is not None:
                    found.send(rest[0])
            elif which in self.from_hub:
                self.from_hub[which](*rest)

    # --- processes ---

    def opened(self, local: Local, pid: int, thread: int, ident: int, name: str, cluster: str) -> int:
        """Takes a new connection of a process. Returns the number of its channel. OSError: the process has ended."""
        if self._lost is not None:
            raise ConnectionError(self._lost)
        watched = self._processes.get(pid)
        if watched is None or watched.has_ended():  # then another process has its pid now
            self._last_process += 1
            watched = self._processes[pid] = Watched(self, pid, self._last_process, local.pidfd())
            self.say(["began", watched.number, pid, name])
        self._last_channel += 1
        self.channels[self._last_channel] = local
        watched.channels[self._last_channel] = local
        local.process = watched.number
        self.say(["open", self._last_channel, watched.number, thread, ident, cluster])
        if self._reading is None:
            self._reading = self.begin(self._run())
        return self._last_channel

    def closed(self, channel: int) -> None:
        """Notes that a connection has ended."""
        local = self.channels.pop(channel, None)
        for watched in self._processes.values():
            watched.channels.pop(channel, None)
        if local is not None and self._lost is None:
            self.say(["close", channel])

    def ended(self, watched: Watched) -> None:
        """Notes that a process has ended, and that all that it had sent was passed on."""
        if self._processes.get(watched.pid) is watched:
            del self._processes[watched.pid]
        if self._lost is None:
            self.say(["ended", watched.number, watched.exitcode])


class Watched:
    """A process that is connected."""

    def __init__(self, relay: Relay, pid: int, number: int, pidfd: int) -> None:
        self.pid = pid
        self.number = number
        self.channels: dict[int, Local] = {}
        self.exitcode: int | None = None
        self._relay = relay
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(self._pidfd, self._end)

    def has_ended(self) -> bool:
        """Returns whether the process has ended; the relay may not have noticed it yet."""
        return self._pidfd < 0 or bool(select.select([self._pidfd], [], [], 0)[0])

    def close(self) -> None:
        """Watches it no more."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _end(self) -> None:
        self.exitcode = exit_code(self._pidfd, self.pid)
        self.close()
        self._relay.begin(self._finish())

    async def _finish(self) -> None:
        while any(local.has_more() for local in self.channels.values()):
            await asyncio.sleep(0)
        for local in self.channels.values():
            local.close()
        self._relay.ended(self)


class Local(asyncio.Protocol):
    """A connection of a process. `process`: its number, as in `Owner`; 0: it has not said hello yet."""

    def __init__(self, relay: Relay) -> None:
        self.process = 0
        self._relay = relay
        self._transport: Any = None
        self._buffer = bytearray()
        self._channel = 0
        self.process = 0  # the number of the process

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._pid, user, _ = _CREDENTIALS.unpack(peer)
        if user not in (os.geteuid(), 0):
            self.refuse("only processes of the user who runs the node are served")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        while end - at >= LENGTH.size:
            begin = at + LENGTH.size
            after = begin + LENGTH.unpack_from(buffer, at)[0]
            if after > end:
                break
            body = bytes(memoryview(buffer)[begin:after])
            at = after
            try:
                if body[:1] == HUB and self._channel:
                    self._relay.say(["hub", self._channel, body])
                else:
                    self._take(*unpacked(memoryview(body)[len(RELAY) :]))
            except OSError as error:
                self.refuse(str(error))
                return
            except Exception as error:  # it is none of ours
                self.refuse(f"the relay cannot read a message: {error}")
                return
        del buffer[:at]
        self._relay.flush()

    def _take(self, op: str, *args: Any) -> None:
        if self._channel and op in self._relay.from_process:
            self._relay.from_process[op](self, *args)
            return
        if op != "hello" or self._channel:
            raise ValueError(f"unknown message {op!r}")
        _, thread, ident, name, cluster = args  # the kernel tells the pid as it is in the namespace of this process
        if not self._pid:
            raise ConnectionError("this process is in another namespace of pids than the node")
        self._channel = self._relay.opened(self, self._pid, thread, ident, name, cluster)

    def pidfd(self) -> int:
        """Opens a pidfd of the process that has made the connection. OSError: it has ended."""
        plug = self._transport.get_extra_info("socket")
        try:  # since Linux 6.5; another process may have the pid by now
            return int(plug.getsockopt(socket.SOL_SOCKET, _PEER_PIDFD))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
        return os.pidfd_open(self._pid)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._relay.closed(self._channel)

    def send(self, body: bytes) -> None:
        """Sends the body of a frame for the process, which the hub has made."""
        if self._transport is not None:
            self._transport.write(framed(HUB, bytes(body)))

    def refuse(self, why: str) -> None:
        """Tells the process that there is no hub any more, and closes the connection."""
        if self._transport is not None:
            self.send(packed([0, ["lost", why]]))
            self._transport.close()

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()

    def has_more(self) -> bool:
        """Returns whether the process has sent what was not read yet."""
        if self._transport is None or self._transport.is_closing():
            return False
        import fcntl
        import termios

        count = bytearray(4)
        with suppress(OSError, ValueError):  # it is closed
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, count)
        return any(count)


async def of_worker(dask_worker: Any) -> Relay:
    """Returns the relay of a Dask worker, which is started at the first call. In the worker's process."""
    found: Relay | None = getattr(dask_worker, "_procession_relay", None)
    if found is not None:
        return found
    from distributed import WorkerPlugin

    scheduler: str = dask_worker.scheduler.address

    async def open_comm() -> Any:
        return await connect.dask().comm.connect(scheduler, **dask_worker.connection_args)

    def lost() -> None:
        # Dask's own stream to the scheduler may live. This node is no member without the hub: see `scheduler`.
        made.begin(dask_worker.close(reason="procession-sync-lost"))

    hello = {"node": dask_worker.address, "name": str(dask_worker.name), "is_client": False}
    made = Relay(open_comm, hello, scheduler, lost)
    Big(made, dask_worker.address, dask_worker.rpc).serve_others(dask_worker)
    dask_worker._procession_relay = made
    await made.start()
    plugin = WorkerPlugin()
    plugin.teardown = lambda worker: made.close("the node has left the cluster")  # type: ignore[method-assign]
    await dask_worker.plugin_add(plugin, "procession_relay")
    return made


def address_of(dask_worker: Any) -> str:
    """Returns the address of the relay of a Dask worker."""
    found: Relay = dask_worker._procession_relay
    return found.address


async def of_client(client: Any, timeout: float) -> Relay:
    """Starts the relay of a Dask client, in its loop."""
    scheduler: str = client.scheduler.address

    async def open_comm() -> Any:
        arguments = client.security.get_connection_args("client")
        return await connect.dask().comm.connect(scheduler, timeout=timeout, **arguments)

    hello = {"node": client.id, "name": socket.gethostname(), "is_client": True}
    made = Relay(open_comm, hello, scheduler, lambda: None)
    Big(made, client.id, client.rpc)
    await made.start()
    return made
