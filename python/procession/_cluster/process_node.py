"""The agent of processes in the process of a node, which is a Dask worker.

For each process of a client there is one connection. The agent starts a daemonic Procession process on the node, passes
signals to it, and says when it has ended. The process gets the program's object as bytes, which the agent does not
unpickle. When the connection ends, for whatever reason, the process is killed. So the processes of a client that has
died end, and those of a node that is closed.

Messages to the node: lists `[kind, ...]`.

    signal  number
    ping    0

Messages from it:

    started pid
    pong
    refused text                  the node cannot start it
    output  1 or 2, bytes         what it has written to stdout or stderr: whole lines, unless a line is very long
    log     bytes                 a pickled log record, see `process_child.LogSender`
    ended   exit code, report, out of memory
                                  report: that of `_start.exit_report`, or None; out of memory: the kernel killed it

All output of the process arrives before `ended`. The agent reads no further while the connection takes no more. So a
process whose client does not read its output waits, as it does when it writes into a full pipe.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from . import process_child, uploads
from .frames import safe
from .node_process import NodeProcess
from .streams import Lines, Records, Stream
from .sync import relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HANDLER", "install"]

HANDLER = "procession_process"  # the name of our handler among those of a Dask worker
_FAREWELL = 10.0  # seconds that a client has to take the last message


async def install(dask_worker: Any) -> None:
    """Prepares a Dask worker for processes, in its process."""

    async def serve(comm: Any, **hello: Any) -> Any:
        from distributed.core import Status

        await ProcessAgent(dask_worker, comm, hello).run()
        return Status.dont_reply

    dask_worker.handlers.setdefault(HANDLER, serve)


class ProcessAgent:
    """One process of one client on this node."""

    def __init__(self, dask_worker: Any, comm: Any, hello: dict[str, Any]) -> None:
        self._dask_worker = dask_worker
        self._comm = comm
        self._hello = hello
        self._process: Any = None
        self._streams: list[Stream] = []
        self._turn = asyncio.Lock()  # one message at a time

    async def run(self) -> None:
        """Runs the process until it has ended or the connection ends."""
        from distributed.comm.core import CommClosedError

        try:
            await self._run()
        except (CommClosedError, OSError):
            pass  # the client has gone, or this node is shutting down
        finally:
            for stream in self._streams:
                stream.close()
            if self._process is not None:
                # Not awaited: this coroutine may be cancelled because the node ends.
                self._process.kill()
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._forget))

    async def _run(self) -> None:
        try:
            await asyncio.to_thread(self._start)
        except Exception as error:
            await self._say("refused", safe(f"{type(error).__name__}: {error}"))
            return
        await self._say("started", self._process.pid)
        listening = asyncio.ensure_future(self._listen())
        ended = asyncio.ensure_future(_until_readable(self._process.sentinel))
        reading = [asyncio.ensure_future(stream.run(self._say)) for stream in self._streams]
        try:
            await asyncio.wait([listening, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return
            for stream in self._streams:
                stream.finish()
            await asyncio.gather(*reading)
            await self._say("ended", *await asyncio.to_thread(self._end))
            await asyncio.wait([listening], timeout=_FAREWELL)
        finally:
            for task in (listening, ended, *reading):
                task.cancel()

    async def _say(self, *message: Any) -> None:
        async with self._turn:
            await self._comm.write(list(message))

    async def _listen(self) -> None:
        """Does what the client wants, until the connection ends."""
        with suppress(OSError):
            while True:
                kind, number = await self._comm.read()
                if kind == "ping":
                    await self._say("pong")
                elif kind == "signal" and self._process._popen is not None:
                    self._process._popen._send_signal(number)

    # --- in a thread, since it takes time ---

    def _start(self) -> None:
        hello = self._hello
        theirs: list[int] = []
        try:
            if hello["forward"]:
                for stream in (Lines(1), Lines(2), Records()):
                    reader, writer = _pair(isinstance(stream, Records))
                    theirs.append(writer)
                    stream.open(reader)
                    self._streams.append(stream)
            process = NodeProcess(
                target=process_child.run,
                args=(
                    hello["node"],
                    bytes(hello["pickle"]),
                    uploads.folder_of(hello["client"], self._dask_worker),
                    relay.address_of(self._dask_worker),
                ),
                kwargs={"level": hello["level"], "fds": _Descriptors(theirs)},
                name=hello["name"],
                daemon=True,
            )
            process.start()
            self._process = process
        finally:
            for writer in theirs:
                os.close(writer)

    def _end(self) -> tuple[int, bytes | None, bool]:
        """Returns how the process has ended."""
        process, popen = self._process, self._process._popen
        process.join()
        code: int = process.exitcode
        report = None if code == 0 or popen._member is None else popen._member.report()
        return code, report, popen._out_of_memory

    def _forget(self) -> None:
        self._process.join()
        self._process.close()


def _pair(of_records: bool) -> tuple[int, int]:
    """Returns the ends of a pipe, for reading and writing; for records of a socket, which keeps their bounds."""
    if not of_records:
        return os.pipe2(os.O_CLOEXEC)
    from socket import SOCK_SEQPACKET, socketpair

    reader, writer = socketpair(type=SOCK_SEQPACKET)
    return reader.detach(), writer.detach()


class _Descriptors:
    """Descriptors that a process gets when it is started."""

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def __reduce__(self) -> Any:
        from ..reduction import DupFd

        return _received, (tuple(DupFd(fd) for fd in self._fds),)


def _received(fds: tuple[Any, ...]) -> list[int]:
    return [fd.detach() for fd in fds]


async def _until_readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(fd, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(fd)
