"""Connections between processes: pipes, and sockets with listeners and clients.

The wire format and the handshake are those of the standard library's `multiprocessing.connection`, so that it may be at
the other end, of any version since Python 3.3.

Whoever receives objects unpickles what the other side sends, and pickles can do anything. So a `Listener` that others
can reach needs an `authkey`, and one that is reached through a network needs `tls` as well: the key proves who is
there at the beginning, and only TLS keeps others from reading and changing what is said afterwards.
"""

from __future__ import annotations

import io
import os
from copyreg import __newobj__  # type: ignore[attr-defined]

from . import _core
from ._connection.base import _ConnectionBase
from .context import AuthenticationError
from .process import _register_farewell, lending, yields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    from typing_extensions import Buffer

    from ._connection.acceptor import Reception

    Address = str | bytes | tuple[Any, ...]

__all__ = ["Client", "Listener", "Pipe", "wait"]

_register_farewell()

families = ["AF_INET", "AF_UNIX"]
default_family = "AF_UNIX"

_CHALLENGE = CHALLENGE = b"#CHALLENGE#"
_WELCOME = WELCOME = b"#WELCOME#"
_FAILURE = FAILURE = b"#FAILURE#"
MESSAGE_LENGTH = 40  # random bytes of a challenge
MESSAGE_MAXLEN = 256  # bytes that a message of the handshake has at most
CLIENT_TIMEOUT = 120.0  # seconds that a `Client` waits for its listener, unless it is told otherwise

# --- addresses ---


def arbitrary_address(family: str) -> Address:
    """An address of that family at which a listener can be made: a free port of this machine, or a path.

    The path is in a folder that only this user may enter, so nobody else can connect.
    """
    if family == "AF_INET":
        return ("localhost", 0)
    if family == "AF_INET6":
        return ("::1", 0)
    if family == "AF_UNIX":
        from .util import get_temp_dir

        return os.path.join(get_temp_dir(), f"listener-{os.urandom(4).hex()}")
    raise ValueError(f"unrecognized family {family!r}: there are AF_INET, AF_INET6 and AF_UNIX")


def address_type(address: Address) -> str:
    """The family of an address: AF_UNIX of a path or abstract name, AF_INET or AF_INET6 of (host, port).

    Also AF_PIPE, of the name of a pipe of Windows, where no listener can be made here. ValueError: it is none of these.
    """
    if isinstance(address, tuple):
        return "AF_INET6" if len(address) == 4 or (address and ":" in str(address[0])) else "AF_INET"
    if isinstance(address, str) and address.startswith("\\\\"):
        return "AF_PIPE"
    if isinstance(address, (str, bytes)):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized: it has to be str, bytes or (host, port)")


def _validate_family(family: str) -> None:
    if family not in ("AF_INET", "AF_INET6", "AF_UNIX"):
        raise ValueError(f"Family {family} is not recognized: it has to be AF_INET, AF_INET6 or AF_UNIX")


# --- connections ---


@yields("_side_channel")
class Connection(_core.Wire, _ConnectionBase):
    """One end of a pipe or of a connected socket, through which objects or bytes go, as messages.

    One thread at a time may send and one may receive. It can be sent to another process at any time and in any way: the
    receiver gets an end of the same pipe. As far as bytes reach them, messages are whole: a process that is killed
    while it sends leaves an OSError ("end of file during message") to the receiver, and one that is killed otherwise
    EOFError.

    Differences from multiprocessing: an exception that comes in the midst of a message (Ctrl-C, usually) makes further
    messages in that direction an OSError; there they would be misunderstood.
    """

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        """handle: a descriptor (a stream), which belongs to the connection from now on. ValueError: it is negative."""
        _core.Wire._open(self, handle.__index__(), readable, writable)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class that moves bytes in a way of its own has the methods of the base, which are made of that.
        for hook, made_of_it in _MADE_OF.items():
            if getattr(cls, hook) is not getattr(Connection, hook):
                for method in made_of_it:
                    if getattr(cls, method) is getattr(Connection, method):
                        setattr(cls, method, getattr(_ConnectionBase, method))

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_connection(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"handle {self._handle}"
        ways = "" if self.readable and self.writable else ", receives" if self.readable else ", sends"
        return f"<{type(self).__name__} {state}{ways}>"

    # for programs that call or override what is private in multiprocessing

    def _close(self) -> None:
        _core.Wire.close(self)

    def _send_bytes(self, buf: Buffer) -> None:
        _core.Wire.send_bytes(self, buf)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        return io.BytesIO(_core.Wire.recv_bytes(self, maxsize))

    def _poll(self, timeout: float | None) -> bool:
        return _core.Wire.poll(self, timeout)

    def __del__(self) -> None:
        """Nothing: the base in Rust closes the descriptor."""


_MADE_OF = {
    "_send_bytes": ("send", "send_bytes"),
    "_recv_bytes": ("recv", "recv_bytes", "recv_bytes_into"),
    "_poll": ("poll",),
    "_close": ("close", "__exit__"),
}


def reduce_connection(conn: Connection) -> tuple[Any, ...]:
    """What pickling makes of a connection."""
    from .reduction import DupFd

    state = conn.__dict__ or None
    duplicate = DupFd(conn.fileno())
    return rebuild_connection, (duplicate, conn.readable, conn.writable, type(conn), _side_channel_of(conn)), state


def rebuild_connection(
    duplicate: Any,
    readable: bool,
    writable: bool,
    kind: type[Connection] = Connection,
    side_channel: _core.SideChannel | None = None,
) -> Connection:
    """The counterpart of `reduce_connection`."""
    conn: Connection = __newobj__(kind)
    _core.Wire._open(conn, _core.clear_of_streams(duplicate.detach()), readable, writable)
    _put_side_channel(conn, side_channel)
    return conn


# where a derived class may have an attribute of its own
_side_channel_of: Callable[[Connection], _core.SideChannel | None] = _core.Wire._side_channel.__get__  # type: ignore[union-attr]
_put_side_channel: Callable[[Connection, _core.SideChannel | None], None] = _core.Wire._side_channel.__set__  # type: ignore[union-attr]


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """A pair of connected connections. duplex=False: the first one receives, the second one sends.

    Difference from multiprocessing: what `send` is given goes through family memory as far as it is big and pickles out
    of band (numpy arrays), and the receiver's array is that memory. For whoever reads such a message with other means
    than procession's it is a pickle that names this package.
    """
    if duplex:
        first, second = _core._socket_pair()
        ends = Connection(first), Connection(second)
    else:
        reader, writer = _core._pipe()
        ends = Connection(reader, writable=False), Connection(writer, readable=False)
    side_channel = _core._side_channel()
    for end in ends:
        _put_side_channel(end, side_channel)
    return ends


# --- listeners and clients ---


class Listener:
    """Waits for clients at an address.

    address: a path, an abstract name (it begins with "\\0"), (host, port), or None: one that is free, and if it is a
    path one that only this user can reach; see `address`.
    family: "AF_UNIX", "AF_INET" or "AF_INET6"; by default that of the address. backlog: how many clients may wait.
    authkey: bytes that clients must prove to know, and get proved; None: everybody is welcome. tls: an `ssl.SSLContext`
    for servers (`ssl.PROTOCOL_TLS_SERVER`, with a certificate), whose clients are `Client(..., tls=...)`.

    Differences from multiprocessing: a client has HANDSHAKE_TIMEOUT seconds to prove that it knows the key, and while
    it takes its time others are accepted.
    """

    HANDSHAKE_TIMEOUT: float = 20.0

    def __init__(
        self,
        address: Address | None = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        family = family or (address_type(address) if address else default_family)
        address = address or arbitrary_address(family)
        _validate_family(family)
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError(f"authkey should be a byte string, not {type(authkey).__name__}")
        self._listener: SocketListener | None = SocketListener(address, family, backlog)
        self._authkey = authkey
        self._reception: Reception | None = None
        if authkey is not None or tls is not None:
            from ._connection.acceptor import Reception

            self._reception = Reception(self._listener._socket, authkey, tls)

    def accept(self) -> _ConnectionBase:
        """The connection of the next client that is in order, waiting for it.

        AuthenticationError: one was not (it has another key, sent nonsense, left or fell silent in the midst of the
        handshake, TLS failed). That has cost this client its connection and nothing else; call it again. OSError: the
        listener is closed; EMFILE: this process has no free descriptors, and the client goes on waiting.
        """
        if self._listener is None:
            raise OSError("listener is closed")
        if self._reception is None:
            return self._listener.accept()
        connection, address = self._reception.accept(self.HANDSHAKE_TIMEOUT)
        self._listener._last_accepted = address
        return connection

    def close(self) -> None:
        """Accepts no more. The socket of a path is removed."""
        listener, self._listener = self._listener, None
        if listener is not None:
            if self._reception is not None:
                self._reception.close()
            listener.close()

    @property
    def address(self) -> Any:
        """Where clients find it."""
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener._address

    @property
    def last_accepted(self) -> Any:
        """The address of the client that was accepted last; None if there was none or the system does not tell."""
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener._last_accepted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class SocketListener:
    """A listener without authentication."""

    def __init__(self, address: Address, family: str, backlog: int = 1) -> None:
        import socket

        from .util import Finalize, is_abstract_socket_namespace

        self._socket = socket.socket(getattr(socket, family))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(True)  # whatever the default timeout is
            self._socket.bind(address)
            self._socket.listen(backlog)
            self._address = self._socket.getsockname()
        except OSError:
            self._socket.close()
            raise
        self._family = family
        self._last_accepted: Any = None
        self._unlink: Finalize | None = None
        if family == "AF_UNIX" and not is_abstract_socket_namespace(address):  # type: ignore[arg-type]
            self._unlink = Finalize(self, os.unlink, args=(address,), exitpriority=0)

    def accept(self) -> Connection:
        """The connection of the next client."""
        sock, self._last_accepted = self._socket.accept()
        return _connection_of(sock)

    def close(self) -> None:
        """Accepts no more. The socket of a path is removed."""
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def _connection_of(sock: Any) -> Connection:
    import socket

    sock.setblocking(True)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # a message is sent whole: there is nothing to wait for
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(_core.clear_of_streams(sock.detach()))


def Client(
    address: Address,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float | None = CLIENT_TIMEOUT,
) -> _ConnectionBase:
    """Connects to the listener at an address. Waits until it accepts, if it takes an authkey or TLS.

    family: by default that of the address. authkey: what the listener has; each side proves to know it. tls: an
    `ssl.SSLContext` for clients (`ssl.create_default_context()`); server_hostname: the name that the server's
    certificate must have, by default the host of the address. timeout: how many seconds all that may take, from
    connecting to the end of the handshake; None: without limit. The connection itself has no timeout.

    OSError: there is no listener. AuthenticationError: it has another key, or sent nonsense. EOFError: it closed the
    connection. TimeoutError (the built-in one): it was too slow. ValueError: timeout is negative.

    Differences from multiprocessing: there a client waits for ever for a listener that does not answer.
    """
    family = family or address_type(address)
    _validate_family(family)
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey should be a byte string, not {type(authkey).__name__}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout is negative: {timeout}")
    if authkey is None and tls is None and timeout is None:
        return SocketClient(address, family=family)
    from ._connection.connector import visit

    return visit(address, family, authkey, tls, server_hostname or _host(address), timeout)


def SocketClient(address: Address, *, family: str | None = None) -> Connection:
    """Connects to the listener at an address, without authentication and without limit of time."""
    return _connection_of(_connected(address, family or address_type(address)))


def _connected(address: Address, family: str) -> Any:
    from ._connection.connector import connected

    return connected(address, family, None)


def _host(address: Address) -> str | None:
    return str(address[0]) if isinstance(address, tuple) else None


# --- proving to know a key ---


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Has the other side of a connection prove that it knows the key. AuthenticationError: it does not.

    connection: whatever has send_bytes(bytes) and recv_bytes(maxlength). digest_name: which digest to ask for (md5,
    sha256, sha384, sha3_256, sha3_384). ValueError: authkey is not bytes.
    """
    _check_key(authkey)
    message = b"{%s}%s" % (digest_name.encode("ascii"), os.urandom(MESSAGE_LENGTH))
    connection.send_bytes(_CHALLENGE + message)
    response = connection.recv_bytes(MESSAGE_MAXLEN)
    try:
        _verify_challenge(authkey, message, response)
    except AuthenticationError:
        connection.send_bytes(_FAILURE)
        raise
    connection.send_bytes(_WELCOME)


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Proves to the other side of a connection that we know the key. AuthenticationError: it does not believe it.

    connection: whatever has send_bytes(bytes) and recv_bytes(maxlength). ValueError: authkey is not bytes.
    """
    _check_key(authkey)
    message = connection.recv_bytes(MESSAGE_MAXLEN)
    if not message.startswith(_CHALLENGE):
        raise AuthenticationError(f"the other side sent something else than a challenge: {message!r}")
    connection.send_bytes(_create_response(authkey, message[len(_CHALLENGE) :]))
    if connection.recv_bytes(MESSAGE_MAXLEN) != _WELCOME:
        raise AuthenticationError("digest sent was rejected: the other side has another key")


def _check_key(authkey: bytes) -> None:
    if not isinstance(authkey, bytes):
        raise ValueError(f"Authkey must be bytes, not {type(authkey)!s}")


def _create_response(authkey: bytes, message: bytes) -> bytes:
    return _core._respond(authkey, message)


def _verify_challenge(authkey: bytes, message: bytes, response: bytes) -> None:
    _core._verify(authkey, message, response)


# --- waiting for several ---


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Waits until some of the objects are ready; returns those, in their order. Empty: timeout seconds have passed.

    Objects: connections and sockets (ready when there is something to receive, or the end), sentinels of processes
    (when they have ended), queues (when they are not empty), events (when they are set), descriptors, and whatever has
    a `fileno()`. timeout: in seconds; None: without limit; 0 or less: just look. TypeError: one is none of these.
    """
    objects = list(object_list)
    ready = _core._wait(objects, timeout)
    if ready is not None:
        return ready
    from ._connection.wait import wait_mixed

    return wait_mixed(objects, timeout)


# --- messages as XML-RPC ---


class ConnectionWrapper:
    """A connection whose objects become messages in another way than pickling."""

    def __init__(self, conn: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        """dumps, loads: from an object to bytes and back."""
        self._conn = conn
        self._dumps = dumps
        self._loads = loads
        for name in ("fileno", "close", "poll", "recv_bytes", "send_bytes"):
            setattr(self, name, getattr(conn, name))

    def send(self, obj: Any) -> None:
        """Sends an object."""
        self._conn.send_bytes(self._dumps(obj))

    def recv(self) -> Any:
        """Receives an object."""
        return self._loads(self._conn.recv_bytes())


def _xml_dumps(obj: Any) -> bytes:
    from xmlrpc.client import dumps

    return dumps((obj,), None, None, None, True).encode("utf-8")


def _xml_loads(message: bytes) -> Any:
    from xmlrpc.client import loads

    (obj,), _ = loads(message.decode("utf-8"))
    return obj


class XmlListener(Listener):
    """A listener whose connections send objects as XML-RPC, which can carry data and no code."""

    def accept(self) -> ConnectionWrapper:  # type: ignore[override]
        """As `Listener.accept`."""
        return ConnectionWrapper(super().accept(), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwargs: Any) -> ConnectionWrapper:
    """As `Client`, for an `XmlListener`."""
    return ConnectionWrapper(Client(*args, **kwargs), _xml_dumps, _xml_loads)


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
