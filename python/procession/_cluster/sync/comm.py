"""Lists of messages over a connection of Dask.

Dask connects, encrypts and authenticates. The `write` and `read` of its comms put a header with the sizes of frames
before each list, read it in two waits, and look for objects to pickle. Here messages are packed by msgpack one after
the other:

- Over plain TCP the loop takes the socket over, and messages are handled in the turn of the loop in which they come.
- Over TLS they go through the comm's stream, which encrypts.
- Other comms (websockets) are used as they are.

A message there and back takes a seventh, a third, and all of the CPU time of Dask's `write` and `read`. Both sides
decide alike, since they have the ends of one connection. A socket is taken over while nothing is on its way: the relay
sends nothing after its request for the handler until the scheduler has sent None, and takes the socket over before that
can come.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Protocol

    class Messages(Protocol):
        """What all kinds have. OSError: the connection has ended."""

        async def run(self, handle: Callable[[list[Any]], None]) -> None:
            """Calls handle(messages) until the connection ends or `handle` raises; then raises the error."""

        def write(self, messages: list[Any]) -> Awaitable[Any] | None:
            """Writes messages. Returns what is to be awaited, if anything."""

        def abort(self) -> None:
            """Ends the connection."""


__all__ = ["over"]

_PIECE = 1 << 18  # bytes of a read
_PATIENCE = 30.0  # seconds for the scheduler's first message


async def over(comm: Any, at_scheduler: bool) -> Messages:
    """Returns the messages of a comm, which is used for nothing else from now on. OSError: the connection has ended."""
    from distributed.comm.tcp import TCP, TLS

    if not isinstance(comm, TCP):
        return _OverComm(comm)
    if comm.stream is None:
        raise ConnectionError("the connection has ended")
    if isinstance(comm, TLS):
        return _OverStream(comm)
    stream = comm.stream
    if stream.writing():
        await stream.write(b"")
    stream.io_loop.remove_handler(stream.fileno())
    made = _OverSocket(comm)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: made, made.socket)
        if at_scheduler:
            made.write([None])
        else:
            # without this limit a relay would hang behind a proxy that ends TLS: the sides would not decide alike
            await asyncio.wait_for(made.begins, _PATIENCE)
    except BaseException:
        made.abort()
        raise
    return made


def _unpacker() -> Any:
    import msgpack  # type: ignore[import-untyped]

    return msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)


def _packer() -> Any:
    import msgpack

    return msgpack.Packer().pack


class _OverSocket(asyncio.Protocol):
    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.socket = comm.stream.socket.dup()  # since the stream closes its own
        self._pack, self._unpacker = _packer(), _unpacker()
        self._transport: Any = None
        self._handle: Callable[[list[Any]], None] = self._begin
        loop = asyncio.get_running_loop()
        self.begins: asyncio.Future[None] = loop.create_future()
        self._end: asyncio.Future[None] = loop.create_future()
        self._early: list[Any] = []  # what came before `run`

    async def run(self, handle: Callable[[list[Any]], None]) -> None:
        self._handle = handle
        early, self._early = self._early, []
        if early:
            handle(early)
        await self._end

    def write(self, messages: list[Any]) -> None:
        self._transport.write(b"".join(map(self._pack, messages)))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.socket.close()  # the transport would do it in the next turn of the loop, and there may be none
        self._comm.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            found = list(self._unpacker)
            if found:
                self._handle(found)
        except BaseException as error:
            self._ends(error)
            self.abort()
            if not isinstance(error, Exception):
                raise

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends(exc or ConnectionError("the connection has ended"))

    def _begin(self, messages: list[Any]) -> None:
        if not self.begins.done() and messages[0] is None:
            self.begins.set_result(None)
            messages = messages[1:]
        self._early += messages

    def _ends(self, error: BaseException) -> None:
        for future in (self.begins, self._end):
            if not future.done():
                future.set_exception(error)
                future.exception()  # it may be awaited by nobody


class _OverStream:
    def __init__(self, comm: Any) -> None:
        self._stream = comm.stream
        self._pack, self._unpacker = _packer(), _unpacker()
        self.abort = comm.abort

    async def run(self, handle: Callable[[list[Any]], None]) -> None:
        unpacker = self._unpacker
        while True:
            unpacker.feed(await self._stream.read_bytes(_PIECE, partial=True))
            found = list(unpacker)
            if found:
                handle(found)
            await asyncio.sleep(0)  # a read does not wait while more has come, and the loop has others to serve

    def write(self, messages: list[Any]) -> None:
        self._stream.write(b"".join(map(self._pack, messages)))


class _OverComm:
    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.write = comm.write
        self.abort = comm.abort

    async def run(self, handle: Callable[[list[Any]], None]) -> None:
        while True:
            handle(await self._comm.read())
