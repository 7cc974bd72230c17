"""Messages of a cluster's queues in a process: packs, unpacks, fetches big ones. See `hub_queue` for their forms."""

from __future__ import annotations

from itertools import count
from time import monotonic, time_ns

from ..._errors import MessageLostError
from .. import pickling
from ..frames import size, writable
from .handle import collecting
from .interrupts import of_handler
from .wire import RELAY, framed, packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .call import Channel, Here

__all__ = ["BIG", "Failed", "Packed", "Unpacker", "is_elsewhere"]

BIG = 1 << 20  # bytes from which a message stays at its node; below, a second way costs more than it saves
_GRACE = 1.0  # seconds to fetch a message in a call that does not wait
_MOST = (1 << 32) - (1 << 20)  # bytes of a message: a frame has 4 bytes for its length

_WITH_HANDLES, _AT_PLACE, _FETCH, _LOST = 1, 2, 3, 4

_keys = count(time_ns())  # also unique in a process that has taken the place of this one by exec


class Packed:
    """A message that is to be put."""

    __slots__ = ("_handles", "_parts", "size")

    def __init__(self, obj: Any) -> None:
        """Raises what pickling raises; TypeError for an object of one machine."""
        handles: list[int] = []
        with collecting(handles):
            pickled, buffers = pickling.dumps(obj)
        self._parts: list[Any] = [pickled, *buffers]
        self._handles = list(dict.fromkeys(handles))
        self.size = size(self._parts)
        if self.size > _MOST:
            raise ValueError(f"a message of {self.size:,} bytes is too big for a queue of a cluster: at most {_MOST:,}")

    def given(self, here: Here, before: list[bytes]) -> Any:
        """Returns it as it is sent to the hub. before: gets the frame that leaves the parts of a big one with the
        relay. The hub makes the relay drop them, if the message is not put."""
        if self.size >= BIG and not here.is_client:
            key = next(_keys)
            before.append(framed(RELAY, packed(["keep", key, self._parts])))
            return [_AT_PLACE, self._handles, self.size, key]
        if self._handles:
            return [_WITH_HANDLES, self._handles, *self._parts]
        return self._parts if len(self._parts) > 1 else self._parts[0]


class NotThere(Exception):
    """Raised when the node of a big message does not answer until the deadline."""


class Failed:
    """Stands for an item that cannot be unpickled, or is lost."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Unpacker:
    """Unpickles the messages of one `get`, and fetches the big ones."""

    def __init__(self, here: Here, queue: int, deadline: float | None) -> None:
        """queue: its number in the hub. deadline: None: without limit. A big message
        is there, and is fetched for a second also after the deadline."""
        self._here = here
        self._queue = queue
        self.number = 0  # of the request, when its answer has come
        self._deadline = deadline
        self._fetches = False  # there was a big message
        self._held: list[int] = []  # the objects whose handles were in messages

    def all(self, messages: list[Any]) -> tuple[list[Any], int]:
        """Returns the objects of messages, and how many messages they are: only the first ones, if the node of a big
        one does not answer until the deadline, and has not died.

        Instead of a message that is lost, or cannot be unpickled, there is a `Failed`.
        """
        if self._deadline is not None:
            self._deadline = max(self._deadline, monotonic() + _GRACE)
        values: list[Any] = []
        for index, message in enumerate(messages):
            try:
                parts = self.parts(index, message)
            except NotThere:
                break
            except MessageLostError as error:
                values.append(Failed(error))
                continue
            try:
                with collecting(self._held):
                    values.append(pickling.loads(parts[0], buffers=writable(parts[1:])))
            except BaseException as error:
                if of_handler(error):
                    raise
                values.append(Failed(error))
        return values, len(values)

    def parts(self, index: int, message: Any) -> Any:
        """Returns the pickle of a message and its buffers.

        Raises:
            MessageLostError: they were at a node that has died.
            NotThere: that node does not answer until the deadline, and has not died.
        """
        if type(message) is bytes:
            return (message,)
        if message[0] == _FETCH:
            return self._fetched(index, *message[1:])
        if message[0] == _LOST:
            raise _lost(*message[1:])
        return message

    def end(self, channel: Channel, skip: int, complete: bool) -> None:
        """Tells the hub which messages were received: the first `skip`, or all. The others go back.

        `channel.last` is this object from the moment on at which that is certain to be sent. May be called again.
        """
        if not complete:
            channel.post(self._queue, "back", [self.number, skip, self._held], self)
        elif self._held or self._fetches:
            channel.post(self._queue, "got", [self.number, self._held], self)
        else:
            channel.post_later(self._queue, "got", [self.number], self)

    def end_there(self, skip: int) -> None:
        """As `end`, in another thread."""
        self._here.pending.append((self._queue, "back", [self.number, skip, self._held]))
        self._here.tell_pending()

    def _fetched(self, index: int, size: int, place: str, process: int, key: int) -> list[Any]:
        self._fetches = True
        while True:
            channel = self._here.channel()
            found: list[Any] | None = channel.ask(0, "fetch", [place, process, key], kind=RELAY)[1]
            if found is not None:
                return found
            answer = channel.ask(self._queue, "is_lost", [self.number, index])
            if answer[0] == "ok" and answer[1]:
                raise _lost(size, place)
            if self._deadline is not None and monotonic() > self._deadline:
                raise NotThere


def is_elsewhere(message: Any) -> bool:
    """Returns whether a message has to be fetched."""
    return type(message) is list and message[0] == _FETCH


def _lost(size: int, place: str) -> MessageLostError:
    text = f"a message of {size:,} bytes is lost: it was at the node {place}, which has died"
    return MessageLostError(text, place, size)
