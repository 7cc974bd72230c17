"""The client's side of a manager's server: a channel to it for each thread, and the references of this process.

A *channel* sends requests and returns answers. In a member of the server's family it is a pair of queues in family
memory (`_core.RpcChannel`); a thread of the server serves the other end. The client puts these queues into the *control
queue* of the server, which members of the family find through the token of a proxy. Elsewhere a channel is a
connection.

The process holds one reference to each object, for all its proxies of it. In the family, taking and dropping a
reference is a message to the control queue, without an answer. All messages go through that one queue, so they arrive
in the right order: a process that unpickles a proxy has its reference before that of the sender is dropped. Elsewhere
these are requests through one connection of the process (the *reference connection*). When that connection ends, in
any way, the references of the process end.
"""

from __future__ import annotations

import os
import struct
from _thread import RLock
from contextlib import suppress
from errno import ECONNREFUSED
from threading import current_thread, local
from weakref import WeakValueDictionary, ref

from .. import _core, process, util
from .deferred import Deferred
from .protocol import GREETING, MARK, RETURN, convert_to_error, dispatch, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import Queue
    from .protocol import Token

__all__ = ["Remote", "listener_client", "remote_of"]

HANDLE = 36  # number of bytes of a handle; the first 16 are the id of the family


class _Serializers(dict):  # type: ignore[type-arg]
    """The classes of listener and client for each serializer."""

    def __missing__(self, name: str) -> tuple[Any, Any]:
        from .. import connection

        known = {
            "pickle": (connection.Listener, connection.Client),
            "xmlrpclib": (connection.XmlListener, connection.XmlClient),
        }
        return self.setdefault(name, known[name])  # type: ignore[no-any-return]


listener_client = _Serializers()


def tls_options(tls: Any) -> dict[str, Any]:
    """Returns the options of a listener or client. tls: an `ssl.SSLContext`, a function that makes one, or None."""
    return {} if tls is None else {"tls": tls() if callable(tls) else tls}


def control_queue_of(handle: bytes, seat: tuple[int, int]) -> bytes:
    """Returns what tokens say about a server's control queue: its handle, and the server's seat in the registry."""
    return handle + struct.pack("<II", *seat)


def holder() -> tuple[int, int]:
    """Returns the identity of this process, as the server of its family uses it: pid and start time."""
    return os.getpid(), process._own_start_time()


class _Local(local):
    """The data of each thread about a server."""

    channel: Any = None
    hangup_guard: Any = None


class _Through(local):
    """The server from which this thread is receiving an answer through a connection."""

    remote: Remote | None = None


def as_reached(token: Token) -> Token:
    """Returns a token that has just arrived, with the address under which this process reaches the server.

    A server that listens at ("0.0.0.0", 6000) does not know under which address clients reach it.
    """
    remote = _through.remote
    if remote is not None and token.control_queue is not None and token.control_queue == remote.control_queue:
        token.address = remote.address
    return token


_through = _Through()


class _HangupGuard:
    """Hangs up when the thread of the channel ends."""

    def __init__(self, channel: _core.RpcChannel) -> None:
        self._channel = channel
        self._pid = os.getpid()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            with suppress(Exception):
                self._channel.hang_up()


class _ConnectionChannel:
    """A channel through a connection."""

    def __init__(self, remote: Remote, connection: Any, foreign: bool) -> None:
        self._remote = ref(remote)
        self._connection = connection
        self._foreign = foreign
        self.broken = False

    def call(self, ident: str | None, name: str, args: Any, kwds: Any) -> Any:
        """Sends a request and returns the answer."""
        self.broken = True  # until there is an answer
        try:
            send(self._connection, (ident, name, args, kwds), self._foreign)
        except OSError:
            raise
        except Exception:  # the request could not be pickled, so nothing was sent
            self.broken = False
            raise
        # unpickling the answer may take references, by calls through the reference connection
        before, _through.remote = _through.remote, self._remote()
        try:
            return receive(self._connection, self._received)
        finally:
            _through.remote = before

    def ask(self, proxy: Any, name: str, args: Any, kwds: Any) -> Any:
        """Calls a method for a proxy. Returns its result, or what the proxy makes of another answer."""
        kind, result = self.call(proxy._id, name, args, kwds)
        if kind == RETURN:
            return result
        from .proxies import unpacked

        try:
            return unpacked(proxy, kind, result)
        finally:
            del result  # the exception must not be part of a cycle

    def _received(self) -> None:
        self.broken = False


class Remote:
    """A server, as this process sees it. There is one for each server to which proxies or managers here refer."""

    def __init__(self, address: Any, serializer: str, authkey: bytes, tls: Any, control_queue: bytes | None) -> None:
        self.address = address
        self.authkey = process.AuthenticationString(authkey)
        self.tls = tls
        self.control_queue = control_queue
        self._serializer = serializer
        self._foreign: bool | None = None
        self._reset()

    def _reset(self) -> None:
        """Sets the initial state; also in a forked child, whose parent goes on using the old one."""
        self.local = _Local()
        self.references = _References(self)
        self._reference_connection: _ConnectionChannel | None = None
        self._control_queue: Queue[Any] | None = None
        self._id = os.urandom(8).hex()  # of this process, for a server that distinguishes clients by connections

    # --- channels ---

    def channel(self) -> Any:
        """Returns this thread's channel, and makes it if there is none."""
        return self.local.channel or self.open_channel()

    def open_channel(self) -> Any:
        """Makes a channel for this thread. ConnectionRefusedError or another OSError: the server has ended."""
        channel: Any = self._channel_in_memory()
        if channel is None:
            channel = self._channel_through_connection()
        self.local.channel = channel
        return channel

    def failed(self, error: BaseException) -> BaseException:
        """Drops the channel if it is broken, after a call has failed. Returns the exception to raise."""
        channel = self.local.channel
        if channel is not None and channel.broken:
            self.local.channel = self.local.hangup_guard = None
            if isinstance(error, EOFError):
                error = EOFError(
                    f"the manager's server at {self.address!r} has ended ({error})"
                    if str(error)
                    else f"the manager's server at {self.address!r} has closed the connection"
                )
        return error

    def open_control_queue(self) -> Queue[Any] | None:
        """Returns the server's control queue, if this process is in its family; else None."""
        if (
            self._control_queue is None
            and self.control_queue is not None
            and self.control_queue[:16] == _core.family_id()
        ):
            from ..queues import SimpleQueue

            control_queue = SimpleQueue.__new__(SimpleQueue)
            try:
                control_queue._attach(self.control_queue[:HANDLE])
            except Exception as error:
                raise self._refused() from error
            self._control_queue = control_queue
        return self._control_queue

    def post(self, *message: Any) -> bool:
        """Puts a message into the control queue, if there is one. ConnectionRefusedError: the server has ended."""
        control_queue = self.open_control_queue()
        if control_queue is None:
            return False
        try:
            control_queue.put(message)
        except Exception:
            if control_queue.is_shutdown:
                raise self._refused() from None
            raise
        return True

    def _refused(self) -> ConnectionRefusedError:
        return ConnectionRefusedError(ECONNREFUSED, f"the manager's server at {self.address!r} has ended")

    def _channel_in_memory(self) -> _core.RpcChannel | None:
        if self._serializer != "pickle" or self.open_control_queue() is None:
            return None
        from ..queues import SimpleQueue

        assert self.control_queue is not None
        requests: Queue[Any] = SimpleQueue()
        answers: Queue[Any] = SimpleQueue()
        try:
            channel = _core.RpcChannel(requests, answers, *struct.unpack("<II", self.control_queue[HANDLE:]))
        except EOFError:
            raise self._refused() from None
        hangup_guard = _HangupGuard(channel)
        self.post("channel", holder(), _core.seat(), current_thread().name, requests, answers)
        self.local.hangup_guard = hangup_guard
        return channel

    def connect(self) -> Any:
        """Connects to the server. Returns the connection."""
        return listener_client[self._serializer][1](self.address, authkey=bytes(self.authkey), **tls_options(self.tls))

    def _channel_through_connection(self) -> _ConnectionChannel:
        channel = self._accepted()
        if not self._foreign:
            try:
                with self.references.turn():
                    if self._reference_connection is None:
                        self._reference_connection = self._accepted()
            finally:
                self.references._catch_up()  # with notes that finalizers have left while another thread had the lock
        return channel

    def _accepted(self) -> _ConnectionChannel:
        connection = self.connect()
        name = f"{process.current_process().name}|{current_thread().name}{MARK}{self._id}]"
        answer = dispatch(connection, None, "accept_connection", (name,))
        self._foreign = not (isinstance(answer, (tuple, list)) and answer and answer[0] == GREETING)
        return _ConnectionChannel(self, connection, self._foreign)

    # --- requests to the server itself ---

    def command(self, name: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] = {}) -> Any:  # noqa: B006
        """Sends a request to the server itself. Returns its result."""
        channel = self.channel()
        if self._foreign:
            return self._command_of_its_own(name, args, kwds)
        try:
            kind, result = channel.call(None, name, args, kwds)
        except BaseException as error:
            failure = self.failed(error)
            if failure is error:
                raise
            raise failure from None
        try:
            return _result(kind, result)
        finally:
            del result  # the exception must not be part of a cycle

    def _command_of_its_own(self, name: str, args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        connection = self.connect()
        try:
            send(connection, (None, name, args, kwds), True)
            kind, result = receive(connection)
        finally:
            connection.close()
        try:
            return _result(kind, result)
        finally:
            del result

    def refer(self, name: str, ident: str) -> None:
        """Takes ("incref") or drops ("decref") a reference of this process. Called by one thread at a time."""
        if self.post(name, holder(), ident):
            return
        if self._foreign is None:
            self._accepted()  # to find out whether it is foreign
        if self._foreign:
            self._command_of_its_own(name, (ident,), {})
            return
        if self._reference_connection is None or self._reference_connection.broken:
            self._reference_connection = self._accepted()
        _result(*self._reference_connection.call(None, name, (ident,), {}))


def _result(kind: str, result: Any) -> Any:
    if kind == RETURN:
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result


class _References(Deferred):
    """The objects of a server to which proxies of this process refer, with the number of proxies."""

    def __init__(self, remote: Remote) -> None:
        super().__init__()
        self._remote = remote
        self._counts: dict[str, int] = {}
        self._granted: dict[str, int] = {}

    def turn(self) -> Any:
        """Returns a lock for work that only one thread may do at a time."""
        return self._lock

    def grant(self, ident: str) -> None:
        """Notes that the server has already counted a reference for this process, with its answer."""
        with self._lock:
            self._granted[ident] = self._granted.get(ident, 0) + 1
        self._catch_up()

    def settle(self, ident: str) -> None:
        """Drops a granted reference that no proxy has taken."""
        with self._lock:
            if self._take_grant(ident):
                self._refer("decref", ident)
        self._catch_up()

    def take(self, ident: str) -> None:
        """Adds a proxy."""
        try:
            with self._lock:
                count = self._counts.get(ident, 0)
                if count == 0 and not self._take_grant(ident):
                    self._remote.refer("incref", ident)
                self._counts[ident] = count + 1
        finally:
            self._catch_up()

    def _take_grant(self, ident: str) -> bool:
        granted = self._granted.pop(ident, 0)
        if granted > 1:
            self._granted[ident] = granted - 1
        return granted > 0

    def _do(self, note: str) -> None:
        """Removes a proxy of the object with this ident."""
        count = self._counts.pop(note, 0)
        if count > 1:
            self._counts[note] = count - 1
        elif count == 1:
            self._refer("decref", note)

    def _refer(self, name: str, ident: str) -> None:
        try:
            self._remote.refer(name, ident)
        except Exception as error:  # a server that has ended holds no references
            util.debug("%s of %s failed: %s", name, ident, error)


def remote_of(token: Token, serializer: str, authkey: bytes | None, tls: Any) -> Remote:
    """Returns the server of that token. authkey, tls: for one that this process does not know yet.

    Without an authkey that of the process is used. So a proxy that comes without a key, and whose object is in another
    server, uses the key of the server from which it came.
    """
    address = tuple(token.address) if isinstance(token.address, list) else token.address
    key = address, serializer, token.control_queue
    remote: Remote | None = _remotes.get(key)
    if remote is None:
        if authkey is None:
            authkey = process.current_process().authkey
        with _making:  # two of one server would both count the references of this process
            remote = _remotes.get(key)
            if remote is None:
                remote = _remotes[key] = Remote(address, serializer, authkey, tls, token.control_queue)
    return remote


def _forked() -> None:
    _making._at_fork_reinit()  # type: ignore[attr-defined]
    for remote in tuple(_remotes.values()):
        remote._reset()


# held while a `Remote` is made, which calls no other code of the package; a finalizer may come in between
_making = RLock()


_remotes: WeakValueDictionary[Any, Remote] = WeakValueDictionary()
os.register_at_fork(after_in_child=_forked)
