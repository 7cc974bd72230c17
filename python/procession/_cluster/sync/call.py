"""Calls of the hub from a process: sends a request to the relay of this machine, and waits for the answer.

Each thread has a connection of its own, so a call is a `send` and a `recv`, without another thread in between. A call
that is interrupted (a signal handler has raised, as after Ctrl-C) or that reaches its deadline cancels its request and
takes the answer that comes: there is exactly one. What an interrupted call was granted in between, it gives back. If
that is interrupted as well, a thread goes on with it: signal handlers run in the main thread alone. A signal handler
may use objects itself: while a connection waits, a call in the same thread takes another one.

A forked child has connections of its own; it closes the copies of its parent's.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import time
import weakref
from _thread import _local, allocate_lock, get_ident, start_new_thread
from collections import deque
from contextlib import suppress
from itertools import count, repeat

from .. import sync
from .wire import AT_CLIENT, HUB, LENGTH, RELAY, framed, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .handle import Handle

    Answer = list[Any]
    Undo = Callable[[Answer], tuple[str, list[Any]] | None]

__all__ = ["Here", "Lost", "forget", "here", "set_here"]

_MOST_LATER = 1 << 12  # bytes that wait for the next message
_PIECE = 1 << 18  # bytes of a read
_HEARS = 1.0  # seconds after which a wait looks for a signal that came directly before its system call


class Lost(ConnectionError):
    """Raised where the hub cannot be reached any more: the scheduler or the relay has gone, or refuses this process."""


Lost.__name__ = Lost.__qualname__ = "ConnectionError"
Lost.__module__ = "builtins"


def _nothing() -> None:
    pass


class Here:
    """The connection of this process to the objects of one cluster."""

    def __init__(self, cluster: str, address: str) -> None:
        """cluster: its id. address: that of the relay of this machine."""
        self.cluster = cluster
        self.address = address
        self.is_client = address.startswith(AT_CLIENT)  # its relay keeps no big messages
        self.pid = os.getpid()
        self.loop_thread = 0  # the thread that runs the relay, if this is its process
        self.context: Callable[[], object] = _nothing  # the context of a client, which its handles keep open
        self.ended: str | None = None  # why the hub cannot be reached any more
        self._local = _local()
        self._threads = count(1)
        self.requests = count(1)  # their numbers
        # What is to be told: of a reference [what, object]; or (object, op, arguments); None: that a batch is not sent.
        self.pending: deque[list[Any] | tuple[int, str, list[Any]] | None] = deque()
        self._batch: list[Any] = []  # of `pending`, until a connection has it
        self._telling = allocate_lock()
        self._sent: set[int] = set()  # the objects of which a handle was sent
        self._ends_well = False
        self._of_process: Channel | None = None
        self._channels: weakref.WeakSet[Channel] = weakref.WeakSet()

    def thread(self) -> int:
        """Returns the number of this thread, of `Owner`."""
        local = self._local
        try:
            found: int = local.number
        except AttributeError:
            found = local.number = next(self._threads)
            local.channels = []
        return found

    def channel(self) -> Channel:
        """Returns a connection of this thread that is not in use."""
        if self.pending:
            self._tell_pending()
        thread = self.thread()
        channels: list[Channel] = self._local.channels
        for found in channels:
            if not found.busy:
                return found
        if get_ident() == self.loop_thread:
            raise RuntimeError("this is the thread of Dask's loop, which passes calls on: use another thread")
        channels[:] = [each for each in channels if not each.left]
        made = self.connect(thread)
        channels.append(made)
        return made

    def connect(self, thread: int) -> Channel:
        """Opens a connection. Lost: there is no relay for this process."""
        if self.ended is not None:
            raise Lost(self.ended)
        if not self._ends_well:
            self._ends_well = True
            atexit.register(self._finish_left)
        made = Channel(self, thread)
        self._channels.add(made)
        return made

    def _finish_left(self) -> None:
        """Waits at exit until threads have ended the requests that they have taken over."""
        end = time.monotonic() + _HEARS
        while any(each.left for each in list(self._channels)) and time.monotonic() < end:
            time.sleep(0.001)

    def discard(self, channel: Channel) -> None:
        """Forgets a connection of this thread, which another thread has taken over."""
        with suppress(ValueError, AttributeError):
            self._local.channels.remove(channel)

    def tell(self, what: str, number: int) -> None:
        """Tells the hub of a reference. Does not wait, and may be called from `__del__` at any time."""
        self.pending.append([what, number])
        self.tell_pending()

    def tell_pending(self) -> None:
        """Tells the hub what is to be told."""
        if get_ident() != self.loop_thread:
            self._tell_pending()
        elif len(self.pending) == 1:
            # The relay reads in this thread, so a `send` that waits for it would wait for ever.
            with suppress(RuntimeError):  # the interpreter ends
                start_new_thread(self._tell_pending, ())

    def tell_soon(self) -> None:
        """As `tell_pending`, in a thread, which no signal handler interrupts."""
        start_new_thread(self._tell_pending, ())

    def _tell_pending(self) -> None:
        while self.pending:
            taken: list[bool] = []
            try:
                # One call of C, so that no signal handler runs between it and the note of its result.
                taken.extend(map(self._telling.acquire, (False,)))
                if not taken[0]:  # the thread that has it sends this, too
                    return
                self._send_pending()
            except Lost:  # the hub has gone; a call says so
                self.pending.clear()
                self._batch.clear()
            except BaseException:
                self.pending.append(None)  # so that the next call goes on with it
                raise
            finally:
                if taken and taken[0]:
                    self._telling.release()

    def tell_sent(self, number: int) -> None:
        """Tells the hub that this process has pickled a handle, once."""
        if number not in self._sent:
            self.tell("sent", number)
            self._sent.add(number)

    def check(self) -> None:
        """Lost: there is no relay for this process."""
        if self._of_process is None:
            with self._telling:
                self._of_process = self._of_process or self.connect(0)

    def _send_pending(self) -> None:
        if self._of_process is None:
            self._of_process = self.connect(0)
        self._batch.extend(map(deque.popleft, repeat(self.pending, len(self.pending))))  # one call of C
        self._of_process.post_batch(self._batch)

    def ended_there(self, channel: Channel) -> None:
        """Notes that a thread has ended the request that it has taken over."""
        self._channels.discard(channel)

    def ask_for(self, thread: int, number: int, op: str, args: list[Any]) -> None:
        """Sends a request for another thread, which a signal handler has kept from it."""
        with suppress(OSError):
            channel = self.connect(thread)
            channel.ask(number, op, args)
            channel.close()

    def after_fork(self) -> Here:
        """Returns what the child uses in the place of this one. Closes the child's copies of connections."""
        for channel in list(self._channels):
            channel.forget()
        return Here(self.cluster, self.address)


class Channel:
    """A connection to the relay."""

    _sock: Any = None  # until it is made: `__del__` also runs if `__init__` was interrupted
    _later = b""

    def __init__(self, here: Here, thread: int) -> None:
        self.here = here
        self.busy = False
        self.left = False  # a thread ends the request, since its call was interrupted twice
        self.last: object = None  # names the last message: its caller knows by it whether it was begun
        self._number = 0
        self._chunks: list[bytes] = []
        self._out = b""
        self._later = b""  # what goes with the next message
        self._sent: list[int] = []  # how many bytes of `_out` each `send` has taken
        self._cancelled = False
        self._settled = True  # there is no request without an answer
        self._timeout: float | None = None
        self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(here.address)
            name = _name_of_process()
            hello = ["hello", os.getpid(), thread, get_ident(), name, here.cluster]
            sock.sendall(framed(RELAY, packed(hello)))
        except OSError as error:
            sock.close()
            if _is_of_handler(error):
                raise
            raise Lost(
                f"the object is of a cluster that cannot be reached from this process: {error}. Only processes of its"
                " nodes, its client, and their children use it"
            ) from None
        except BaseException:
            sock.close()
            raise

    def socket(self) -> socket.socket:
        """Returns the socket, for a caller that has this connection alone."""
        found: socket.socket = self._sock
        return found

    def close(self) -> None:
        """Closes the connection."""
        if self._later and not self.busy:
            with suppress(OSError):
                self._sock.settimeout(0.0)
                self._sock.sendall(self._later)
            self._later = b""
        if self._sock is not None:
            self._sock.close()

    def forget(self) -> None:
        """Closes a forked child's copy of the connection."""
        self._later = b""
        if self._sock is not None:
            self._sock.close()

    __del__ = close  # the thread has ended

    def post(self, number: int, op: str, args: list[Any], last: object = None) -> None:
        """Sends a request without an answer. last: becomes the attribute of that name when it is certain to be sent."""
        if self._out:  # a message that was interrupted
            self._flush()
        self._begin(0, framed(HUB, packed([0, number, op, args])), last)
        self._flush()

    def post_later(self, number: int, op: str, args: list[Any], last: object = None) -> None:
        """Sends a request without an answer, which need not reach the relay if this process ends.

        If the relay is in this process, it ends with it, and the request goes together with the next one.
        """
        if self.here.loop_thread and len(self._later) < _MOST_LATER:
            self._later, self.last = self._later + framed(HUB, packed([0, number, op, args])), last
        else:
            self.post(number, op, args, last)

    def post_batch(self, batch: list[Any]) -> None:
        """Sends what is to be told, and empties the list."""
        if self._out:
            self._flush()
        refer = [each for each in batch if type(each) is list]
        requests = [[0, *each] for each in batch if type(each) is tuple]  # first: a reference may keep their object
        if refer:
            requests.append([0, 0, "refer", refer])
        frames = b"".join([framed(HUB, packed(each)) for each in requests])
        self._out, self._sent, batch[:] = frames, [], ()
        self._flush()

    def ask(
        self,
        number: int,
        op: str,
        args: list[Any],
        deadline: float | None = None,
        undo: Undo | None = None,
        patient: bool = False,
        kind: bytes = HUB,
        before: bytes = b"",
    ) -> Answer:
        """Sends a request and returns the answer. For the arguments see `Handle._call`.

        The attribute `last` is `args` from the moment on at which the request is certain to be sent.

        kind: RELAY: the relay itself does the request; `number` does not matter.
        before: frames that are sent together with the request.
        """
        try:
            self.busy = True
            if self._out:  # an undo that was interrupted
                self._flush()
            request = next(self.here.requests)
            if kind != HUB:
                message = [op, request, *args]
            elif deadline is None:
                message = [request, number, op, args]
            else:
                message = [request, number, op, args, True]
            self._begin(request, before + framed(kind, packed(message)), args)
            answer = self._finish(deadline)
            if answer is None:
                self._cancel()
                answer = self._finish(None)
                assert answer is not None
            self._settled = True
            self._out, self._sent, self._chunks, self.last = b"", [], [], None  # they may be big
            self.busy = False
            return answer
        except Lost:
            self.here.discard(self)
            raise
        except BaseException:
            try:
                self._interrupted(number, undo, patient)
            except BaseException:
                self.left = True
                start_new_thread(self._conclude_there, (number, undo))
                raise
            raise

    def _interrupted(self, number: int, undo: Undo | None, patient: bool) -> None:
        """Ends the request of a call in which a signal handler has raised. Another one leaves that to a thread."""
        while True:
            try:
                self._conclude(number, undo)
                self.busy = False
                return
            except Lost:
                return
            except BaseException:
                if not patient:
                    raise

    def _conclude_there(self, number: int, undo: Undo | None) -> None:
        with suppress(OSError):
            self._conclude(number, undo)
        self.here.ended_there(self)
        self.close()

    # A signal handler may raise at the begin of a function, after any call and at any backward jump, and nowhere else.
    # So what belongs together is assigned in one statement, and these may be called again after an exception.

    def _conclude(self, number: int, undo: Undo | None) -> None:
        if not self._settled:
            self._cancel()
            answer = self._finish(None)
            assert answer is not None
            back = None if undo is None else undo(answer)
            frame = b"" if back is None else framed(HUB, packed([0, number, *back]))
            self._out, self._sent, self._settled = frame, [], True
        self._flush()

    def _begin(self, request: int, frame: bytes, last: object) -> None:
        number = request or self._number
        self._number, self._out, self._later, self._sent, self._chunks, self._cancelled, self._settled, self.last = (
            number,
            self._later + frame,
            b"",
            [],
            [],
            False,
            not request,
            last,
        )

    def _cancel(self) -> None:
        if not self._cancelled:
            frame = self._out + framed(HUB, packed([0, 0, "cancel", [self._number]]))
            self._out, self._cancelled = frame, True

    def _flush(self) -> None:
        sock = self._sock
        while len(self._out) > (done := sum(self._sent)):
            self._wait_at_most(_HEARS)
            try:
                # One call of C, so that no signal handler runs between the system call and the note of its result.
                self._sent.extend(map(sock.send, (memoryview(self._out)[done:],)))
            except OSError as error:
                if _is_of_handler(error):
                    raise
                if not isinstance(error, TimeoutError):
                    raise self._lost(error) from None

    def _finish(self, deadline: float | None) -> Answer | None:
        """Returns the answer of the request; None: the deadline has passed."""
        self._flush()
        receive = self._sock.recv
        while True:
            if self._chunks:
                answer = self._frame_of(self._number)
                if answer is not None:
                    return answer
                if not self._chunks[-1] or self._frame_of(0) is not None:
                    raise self._lost(None)
            left = _HEARS
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return None
            self._wait_at_most(left)
            try:
                self._chunks.extend(map(receive, (_PIECE,)))  # as in `_flush`
            except OSError as error:
                if _is_of_handler(error):
                    raise
                if not isinstance(error, TimeoutError):
                    raise self._lost(error) from None

    def _wait_at_most(self, seconds: float | None) -> None:
        if seconds != self._timeout:
            self._timeout = -1.0  # it is not known, if this is interrupted
            self._sock.settimeout(seconds)
            self._timeout = seconds

    def _frame_of(self, number: int) -> Answer | None:
        """Returns the answer with that number, if it has come whole."""
        chunks = self._chunks
        if len(chunks) > 1 and len(chunks[0]) >= LENGTH.size:
            least = LENGTH.size + LENGTH.unpack_from(chunks[0])[0]
            if sum(map(len, chunks)) < least:  # a big answer, which is not put together for each piece
                return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        at = 0
        while len(data) - at >= LENGTH.size:
            begin = at + LENGTH.size
            at = begin + LENGTH.unpack_from(data, begin - LENGTH.size)[0]
            if at > len(data):
                break
            found, answer = unpacked(memoryview(data)[begin + len(HUB) : at])
            if found == number:
                return answer  # type: ignore[no-any-return]
        return None

    def _lost(self, error: OSError | None) -> Lost:
        """Returns the error for a connection that has ended. The relay may have said why."""
        if error is not None:
            with suppress(OSError):
                self._wait_at_most(0)
                self._chunks.append(self._sock.recv(_PIECE))
        told = self._frame_of(0) if self._chunks else None
        if told is not None:
            self.here.ended = told[1]
        else:
            self.here.ended = "the relay of this machine, a Dask worker or the client of the cluster, has gone"
        return Lost(self.here.ended)


def _is_of_handler(error: OSError) -> bool:
    """Returns whether an error that was caught where a socket was used is one that a signal handler has raised."""
    trace = error.__traceback__
    return trace is not None and trace.tb_next is not None  # a socket has no Python code that raises


def _name_of_process() -> str:
    process = sys.modules.get(f"{__name__.partition('.')[0]}.process")
    name = "" if process is None else process.current_process().name
    return str(name).encode("utf-8", "backslashreplace").decode()


# --- this process ---

_by_cluster: dict[str, Here] = {}
_ended: dict[str, str] = {}  # why the last client of a cluster cannot reach it any more
_clients: list[Here] = []  # the connections of this program's clients


def here(cluster: str, address: str) -> Here:
    """Returns the connection to a cluster. address: that of the relay of the machine on which the handle was pickled,
    which may be another machine. Lost: there is no relay for this process."""
    found = _by_cluster.get(cluster)
    if found is None:
        found = Here(cluster, sync.relay_of_node or address)
        found.ended = _ended.get(cluster)
        found.check()
        found = _by_cluster.setdefault(cluster, found)
    return found


def set_here(made: Here) -> None:
    """Notes the connection of a client. The last one is used for handles that are unpickled."""
    _clients.append(made)
    _by_cluster[made.cluster] = made
    _ended.pop(made.cluster, None)


def forget(made: Here) -> None:
    """Notes that the connection of a client is closed. Another one to the same cluster takes its place."""
    if made in _clients:
        _clients.remove(made)
    if _by_cluster.get(made.cluster) is made:
        others = [each for each in _clients if each.cluster == made.cluster]
        if others:
            _by_cluster[made.cluster] = others[-1]
        else:
            del _by_cluster[made.cluster]
            if made.ended is not None:
                _ended[made.cluster] = made.ended


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def _before_fork() -> None:
    for handle in list(_handles):  # until the child has told that it has them
        handle._here.tell_sent(handle._number)


def _in_child() -> None:
    _clients.clear()
    heres = {id(found): found for found in _by_cluster.values()}
    handles = list(_handles)
    for handle in handles:
        heres.setdefault(id(handle._here), handle._here)
    ours = {key: found.after_fork() for key, found in heres.items()}
    for cluster, found in list(_by_cluster.items()):
        _by_cluster[cluster] = ours[id(found)]
    for handle in handles:
        handle._here = ours[id(handle._here)]
        handle._here.pending.append(["held", handle._number])


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
