"""Calls of the hub from an event loop: one connection for each loop, on which the calls of its tasks wait together.

The owner of such a call is the thread of the loop, as it is for calls of that thread without a loop.
"""

from __future__ import annotations

import asyncio
import weakref
from _thread import start_new_thread

from .call import Lost
from .wire import HUB, IN_LOOP, LENGTH, framed, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .call import Answer, Here, Undo

__all__ = ["ask"]

_PATIENCE = 1.0  # seconds in which a cancelled call waits for its answer
_PIECE = 1 << 16  # bytes of a read


async def ask(
    here: Here,
    number: int,
    op: str,
    args: list[Any],
    timeout: float | None,
    undo: Undo | None,
    patient: bool,
    before: bytes = b"",
) -> Answer:
    """Sends a request and returns the answer. For the arguments see `Handle._call_async`."""
    loop = asyncio.get_running_loop()
    posts = _posts.setdefault(loop, {})
    post = posts.get(here)
    if post is None or post.ended is not None:
        post = posts[here] = _Post(here, loop)
    request = next(here.requests)
    future: asyncio.Future[Answer] = loop.create_future()
    try:
        post.send(request, future, [number, op, args, timeout is not None or IN_LOOP], before)
        await asyncio.wait((future,), timeout=timeout)
        if not future.done():
            post.cancel(request)
            await asyncio.wait((future,))
        answer = future.result()
    except BaseException as error:
        if post.begun < request:
            raise
        post.cancel(request)
        if isinstance(error, GeneratorExit):
            post.give_back(request, number, undo, future)
            raise
        # As without a loop, the call ends when it has given back what it was granted: the loop may end next.
        end = loop.time() + _PATIENCE
        while not future.done() and (patient or loop.time() < end):
            try:
                await asyncio.wait((future,), timeout=None if patient else end - loop.time())
            except asyncio.CancelledError:
                if not patient:
                    break
        post.give_back(request, number, undo, future)
        raise
    return answer  # from here on as in `Handle._call`


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
        self._cancelled: dict[int, tuple[int, Undo | None]] = {}  # requests whose callers have gone: object, undo
        self._chunks: list[bytes] = []
        self._out = bytearray()
        self._sent: list[int] = []  # how many bytes of it were sent just now
        self.begun = 0  # the last request that is certain to be sent
        loop.add_reader(self._sock, self._read)

    def send(self, request: int, future: asyncio.Future[Answer], message: list[Any], before: bytes) -> None:
        """Sends a request. future: of its answer. before: frames that are sent together with it."""
        if self.ended is not None:
            raise self.ended
        self._futures[request] = future
        frame = before + framed(HUB, packed([request, *message]))
        self._out += frame
        self.begun = request  # without a call in between
        self._flush()

    def cancel(self, request: int) -> None:
        """Cancels a request, unless it has an answer."""
        if request in self._futures:
            self._write([0, 0, "cancel", [request]])

    def give_back(self, request: int, number: int, undo: Undo | None, future: asyncio.Future[Answer]) -> None:
        """Gives back what the answer to a cancelled request grants, now or when it comes."""
        self._cancelled[request] = number, undo
        if future.done():
            self._answered(request, None if future.cancelled() or future.exception() else future.result())
            return
        loop = self._loop()
        if loop is None or loop.is_closed():  # it reads no more
            start_new_thread(self._drain, ())

    def _answered(self, request: int, answer: Answer | None) -> None:
        """Ends a cancelled request."""
        number, undo = self._cancelled.pop(request)
        back = None if undo is None or answer is None else undo(answer)
        if back is not None and self.ended is None:
            self._write([0, number, *back])

    def _write(self, message: Any) -> None:
        self._out += framed(HUB, packed(message))
        self._flush()

    def _flush(self) -> None:
        loop = self._loop()
        try:
            if not self._sent:
                self._sent.extend(map(self._sock.send, (self._out,)))  # one call of C, as in `Channel`
            count = self._sent[0]
            del self._out[:count], self._sent[0]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(Lost(f"the relay of this machine has gone: {error}"))
            return
        if loop is not None and not loop.is_closed():
            if self._out:
                loop.add_writer(self._sock, self._flush)
            else:
                loop.remove_writer(self._sock)

    def _drain(self) -> None:
        """Takes the answers that are still to come. In a thread, after the loop has ended."""
        self._sock.setblocking(True)
        while self._cancelled and self.ended is None:
            self._read()

    def _read(self) -> None:
        try:
            self._chunks.extend(map(self._sock.recv, (_PIECE,)))  # one call of C, as in `Channel`
        except BlockingIOError:
            return
        except OSError:
            self._chunks.append(b"")
        self._take_all()

    def _take_all(self) -> None:
        if not self._chunks[-1]:
            self._end(Lost("the relay of this machine, a Dask worker or the client of the cluster, has gone"))
            return
        if len(self._chunks) > 1 and len(self._chunks[0]) >= LENGTH.size:
            least = LENGTH.size + LENGTH.unpack_from(self._chunks[0])[0]
            if sum(map(len, self._chunks)) < least:  # a big answer, which is not put together for each piece
                return
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        at = 0
        while len(data) - at >= LENGTH.size:
            begin = at + LENGTH.size
            end = begin + LENGTH.unpack_from(data, at)[0]
            if end > len(data):
                break
            request, answer = unpacked(memoryview(data)[begin + len(HUB) : end])
            if request == 0:
                self._end(Lost(answer[1]))
                return
            future = self._futures.get(request)
            if future is not None and not future.done():
                future.set_result(answer)
            self._futures.pop(request, None)
            if request in self._cancelled:
                self._answered(request, answer)
            at = end
        self._chunks[:] = [data[at:]] if at < len(data) else []

    def _end(self, error: Lost) -> None:
        if self.ended is not None:
            return
        self.ended = error
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._sock)
            loop.remove_writer(self._sock)
        self._channel.close()
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if not future.done():
                future.set_exception(error)


_posts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Here, _Post]] = weakref.WeakKeyDictionary()
