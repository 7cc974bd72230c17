"""Calls of the hub from an event loop: one connection for each loop, on which the calls of its tasks wait together.

The owner of such a call is the thread of the loop, as it is for calls of that thread without a loop.
"""

from __future__ import annotations

import asyncio
import weakref

from .call import Lost
from .wire import HUB, IN_LOOP, LENGTH, framed, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .call import Answer, Here, Undo

__all__ = ["ask"]


async def ask(
    here: Here, number: int, op: str, args: list[Any], timeout: float | None, undo: Undo | None, patient: bool
) -> Answer:
    """Sends a request and returns the answer. For the arguments see `Handle._call_async`."""
    loop = asyncio.get_running_loop()
    posts = _posts.setdefault(loop, {})
    post = posts.get(here)
    if post is None or post.ended is not None:
        post = posts[here] = _Post(here, loop)
    request, future = post.send(number, op, args, timeout is not None)
    try:
        await asyncio.wait((future,), timeout=timeout)
        if not future.done():
            post.cancel(request)
            await asyncio.wait((future,))
    except BaseException as error:
        post.cancel(request)
        if patient and not isinstance(error, GeneratorExit):
            while not future.done():
                try:
                    await asyncio.wait((future,))
                except asyncio.CancelledError:
                    continue
        future.add_done_callback(lambda done: post.undo(number, undo, done))
        raise
    return future.result()


class _Post:
    """The connection of a loop."""

    def __init__(self, here: Here, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: Lost | None = None
        self._here = here
        self._channel = here.connect(here.thread())
        self._sock = self._channel.socket()
        self._sock.setblocking(False)
        self._loop = weakref.ref(loop)
        self._futures: dict[int, asyncio.Future[Answer]] = {}
        self._in = bytearray()
        self._out = bytearray()
        loop.add_reader(self._sock, self._read)

    def send(self, number: int, op: str, args: list[Any], limited: bool) -> tuple[int, asyncio.Future[Answer]]:
        """Sends a request. Returns its number and the future of its answer."""
        if self.ended is not None:
            raise self.ended
        request = next(self._here.requests)
        future = self._futures[request] = asyncio.get_running_loop().create_future()
        self._write([request, number, op, args, limited or IN_LOOP])
        return request, future

    def cancel(self, request: int) -> None:
        """Cancels a request, unless it has an answer."""
        if request in self._futures:
            self._write([0, 0, "cancel", [request]])

    def undo(self, number: int, undo: Undo | None, future: asyncio.Future[Answer]) -> None:
        """Gives back what the answer to a cancelled request grants."""
        if undo is not None and not future.cancelled() and future.exception() is None:
            back = undo(future.result())
            if back is not None and self.ended is None:
                self._write([0, number, *back])

    def _write(self, message: Any) -> None:
        self._out += framed(HUB, packed(message))
        self._flush()

    def _flush(self) -> None:
        loop = self._loop()
        try:
            del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(Lost(f"the relay of this machine has gone: {error}"))
            return
        if loop is not None:
            if self._out:
                loop.add_writer(self._sock, self._flush)
            else:
                loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            piece = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._end(Lost("the relay of this machine, a Dask worker or the client of the cluster, has gone"))
            return
        buffer = self._in
        buffer += piece
        while len(buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(buffer)[0]
            if end > len(buffer):
                break
            request, answer = unpacked(bytes(buffer[LENGTH.size + len(HUB) : end]))
            del buffer[:end]
            future = self._futures.pop(request, None)
            if future is not None and not future.done():
                future.set_result(answer)
            elif request == 0:
                self._end(Lost(answer[1]))
                return

    def _end(self, error: Lost) -> None:
        if self.ended is not None:
            return
        self.ended = error
        loop = self._loop()
        if loop is not None:
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)
        self._channel.close()
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if not future.done():
                future.set_exception(error)


_posts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Here, _Post]] = weakref.WeakKeyDictionary()
