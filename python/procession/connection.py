"""Connections between processes: pipes, and sockets with listeners and clients.

The wire format and the handshake are those of the standard library's `multiprocessing.connection`, so that library may
be at the other end, of any version since Python 3.3.

A process that receives objects unpickles what the other side sends, and a pickle can run any code. So a `Listener` that
others can reach needs an `authkey`, and one that is reached through a network needs `tls` too: the key proves at the
beginning who is there, and only TLS keeps others from reading and changing later messages.
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
    import socket
    import ssl
    from collections.abc import Callable, Iterable
    from typing import Any, Self, TypeVar, overload

    from typing_extensions import Buffer

    from ._connection.acceptor import Acceptor
    from ._connection.base import R, S
    from ._connection.base import _ConnectionBase as _Base
    from ._core import Wire as _Wire

    T = TypeVar("T")
    Address = str | bytes | tuple[Any, ...]
else:
    # type arguments are for type checkers alone: the bases are those without them
    S = R = None
    _Wire, _Base = {(S, R): _core.Wire}, {(S, R): _ConnectionBase}

__all__ = ["Client", "Listener", "Pipe", "wait"]

_register_farewell()

families: list[str] = ["AF_INET", "AF_UNIX"]
default_family = "AF_UNIX"

_CHALLENGE = CHALLENGE = b"#CHALLENGE#"
_WELCOME = WELCOME = b"#WELCOME#"
_FAILURE = FAILURE = b"#FAILURE#"
MESSAGE_LENGTH = 40  # number of random bytes of a challenge
MESSAGE_MAXLEN = 256  # number of bytes of a handshake's longest message
CLIENT_TIMEOUT = 120.0  # seconds that a `Client` waits for its listener by default

# --- addresses ---


def arbitrary_address(family: str) -> Address:
    """Returns an address of that family for a listener: a free port of this machine, or a path.

    Only this user may enter the folder of the path, so other users cannot connect.
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
    """Returns the family of an address: AF_UNIX for a path or abstract name, AF_INET or AF_INET6 for (host, port).

    It returns AF_PIPE for the name of a pipe of Windows, for which no listener can be made here. ValueError: `address`
    is none of these.
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
class Connection(_Wire[S, R], _Base[S, R]):
    """One end of a pipe or of a connected socket, which sends and receives objects or bytes as messages.

    One thread at a time may send and one may receive. A connection can be sent to another process at any time and in
    any way: the receiver gets an end of the same pipe.

    If the process at the other end dies, `recv` raises EOFError after the last message; if it died while it was
    sending, OSError ("end of file during message").

    Difference from multiprocessing: if an exception (usually Ctrl-C) interrupts a message, further messages in that
    direction raise OSError; there they would be misunderstood.

    Example:
        ```python
        import procession as mp

        def child(end):
            end.send(end.recv() + 1)

        if __name__ == "__main__":
            here, there = mp.Pipe()
            mp.Process(target=child, args=(there,)).start()
            here.send(41)
            print(here.recv())  # 42
        ```
    """

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        """Makes a connection of a descriptor (a stream), which it owns from now on. ValueError: it is negative."""
        _core.Wire._open(self, handle.__index__(), readable, writable)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The base has versions of these methods that call `_send_bytes` and so on, for a class that overrides those.
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

    # for programs that call or override private methods of multiprocessing

    def _close(self) -> None:
        _core.Wire.close(self)

    def _send_bytes(self, buf: Buffer) -> None:
        _core.Wire.send_bytes(self, buf)

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        return io.BytesIO(_core.Wire.recv_bytes(self, maxsize))

    def _poll(self, timeout: float | None) -> bool:
        return _core.Wire.poll(self, timeout)

    def __del__(self) -> None:
        """Does nothing: the base in Rust closes the descriptor."""


_MADE_OF = {
    "_send_bytes": ("send", "send_bytes"),
    "_recv_bytes": ("recv", "recv_bytes", "recv_bytes_into"),
    "_poll": ("poll",),
    "_close": ("close", "__exit__"),
}


def reduce_connection(conn: Connection[Any, Any]) -> tuple[Any, ...]:
    """Reduces a connection for pickle."""
    from .reduction import DupFd

    state = conn.__dict__ or None
    duplicate = DupFd(conn.fileno())
    return rebuild_connection, (duplicate, conn.readable, conn.writable, type(conn), _side_channel_of(conn)), state


def rebuild_connection(
    duplicate: Any,
    readable: bool,
    writable: bool,
    kind: type[Connection[Any, Any]] = Connection,
    side_channel: _core.SideChannel | None = None,
) -> Connection[Any, Any]:
    """Makes the connection that `reduce_connection` has reduced."""
    conn: Connection[Any, Any] = __newobj__(kind)
    _core.Wire._open(conn, _core.clear_of_streams(duplicate.detach()), readable, writable)
    _put_side_channel(conn, side_channel)
    return conn


# the descriptors of the base: a derived class may use the name `_side_channel` for something else
_side_channel_of: Callable[[Connection[Any, Any]], _core.SideChannel | None] = _core.Wire._side_channel.__get__  # type: ignore[union-attr]
_put_side_channel: Callable[[Connection[Any, Any], _core.SideChannel | None], None] = _core.Wire._side_channel.__set__  # type: ignore[union-attr]


def Pipe(duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:
    """Makes a pair of connected connections.

    Difference from multiprocessing: big data that pickles out of band (numpy arrays) goes through family memory, and
    the array that the receiver gets uses that memory. A program that reads such a message without procession finds a
    pickle that names this package.

    Args:
        duplex: False: the first connection only receives and the second one only sends.

    Example:
        ```python
        import procession as mp

        receiver, sender = mp.Pipe(duplex=False)
        sender.send(["any", "object"])
        print(receiver.recv())  # ['any', 'object']
        ```
    """
    try:
        first, second = _core._socket_pair() if duplex else _core._pipe()
    except OSError as error:
        _core.explain_limit(error, "making a pipe")
        raise
    ends = Connection(first, writable=duplex), Connection(second, readable=duplex)
    side_channel = _core._side_channel()
    for end in ends:
        _put_side_channel(end, side_channel)
    return ends


# --- listeners and clients ---


class Listener:
    """Waits for clients at an address.

    Difference from multiprocessing: a client has HANDSHAKE_TIMEOUT seconds to prove that it knows the key, and others
    are accepted meanwhile.

    Args:
        address: a path, an abstract name (it begins with "\\0") or (host, port). None: a free one; a path of that kind
            only this user can reach. See the property `address`.
        family: "AF_UNIX", "AF_INET" or "AF_INET6"; None: that of the address.
        backlog: number of clients that may wait.
        authkey: bytes; each side proves that it knows them. None: every client is accepted.
        tls: an `ssl.SSLContext` for servers (`ssl.PROTOCOL_TLS_SERVER`, with a certificate). Clients use
            `Client(..., tls=...)`.

    Example:
        ```python
        from threading import Thread
        from procession.connection import Client, Listener

        def visit(address):
            with Client(address, authkey=b"secret") as connection:
                connection.send("hello")

        with Listener(authkey=b"secret") as listener:
            Thread(target=visit, args=(listener.address,)).start()
            with listener.accept() as connection:
                print(connection.recv())  # hello
        ```
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
        try:
            self._listener: SocketListener | None = SocketListener(address, family, backlog)
            self._authkey = authkey
            self._acceptor: Acceptor | None = None
            if authkey is not None or tls is not None:
                from ._connection.acceptor import Acceptor

                self._acceptor = Acceptor(self._listener._socket, authkey, tls)
        except OSError as error:
            _core.explain_limit(error, f"making a listener at {address!r}")
            raise

    def accept(self) -> Connection[Any, Any]:
        """Waits for the next client that passes the handshake. Returns its connection.

        Raises:
            AuthenticationError: a client did not pass (it has another key, sent nonsense, left or fell silent during
                the handshake, or TLS failed). Only this client has lost its connection; call `accept` again.
            OSError: the listener is closed. EMFILE: this process has no free descriptors; the client still waits.
        """
        if self._listener is None:
            raise OSError("listener is closed")
        try:
            if self._acceptor is None:
                return self._listener.accept()
            connection, address = self._acceptor.accept(self.HANDSHAKE_TIMEOUT)
        except OSError as error:
            _core.explain_limit(error, "accepting a client")
            raise
        self._listener._last_accepted = address
        return connection  # type: ignore[return-value]  # through TLS a `TlsConnection`, with the same methods

    def close(self) -> None:
        """Accepts no more clients. Removes the socket of a path."""
        listener, self._listener = self._listener, None
        if listener is not None:
            if self._acceptor is not None:
                self._acceptor.close()
            listener.close()

    @property
    def address(self) -> Any:
        """The address for clients."""
        if self._listener is None:
            raise OSError("listener is closed")
        return self._listener._address

    @property
    def last_accepted(self) -> Any:
        """The address of the client that was accepted last; None if there was none or the system does not know it."""
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
            self._socket.setblocking(True)  # the default timeout does not matter
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

    def accept(self) -> Connection[Any, Any]:
        """Waits for the next client and returns its connection."""
        sock, self._last_accepted = self._socket.accept()
        return _connection_of(sock)

    def close(self) -> None:
        """Accepts no more clients. Removes the socket of a path."""
        try:
            self._socket.close()
        finally:
            unlink, self._unlink = self._unlink, None
            if unlink is not None:
                unlink()


def _connection_of(sock: Any) -> Connection[Any, Any]:
    from ._connection import tcp

    sock.setblocking(True)
    tcp.prepare(sock)
    return Connection(_core.clear_of_streams(sock.detach()))


def Client(
    address: Address,
    family: str | None = None,
    authkey: bytes | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    timeout: float | None = CLIENT_TIMEOUT,
) -> Connection[Any, Any]:
    """Connects to the listener at an address. If it uses an authkey or TLS, waits until it accepts.

    Difference from multiprocessing: there a client waits for ever for a listener that does not answer.

    Args:
        address: a path, an abstract name or (host, port).
        family: None: that of the address.
        authkey: that of the listener; each side proves that it knows it.
        tls: an `ssl.SSLContext` for clients (`ssl.create_default_context()`).
        server_hostname: the name that the server's certificate must have; None: the host of the address.
        timeout: seconds for connecting and the handshake together; None: without limit. The connection has no timeout.

    Returns:
        the connection.

    Raises:
        OSError: there is no listener.
        AuthenticationError: the listener has another key, or sent nonsense.
        EOFError: the listener closed the connection.
        TimeoutError: the listener was too slow. (The built-in exception.)
        ValueError: `timeout` is negative.
    """
    family = family or address_type(address)
    _validate_family(family)
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey should be a byte string, not {type(authkey).__name__}")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout is negative: {timeout}")
    try:
        if authkey is None and tls is None and timeout is None:
            return SocketClient(address, family=family)
        from ._connection.connector import connect

        return connect(address, family, authkey, tls, server_hostname, timeout)  # type: ignore[return-value]
    except OSError as error:
        _core.explain_limit(error, f"connecting to {address!r}")
        raise


def SocketClient(address: Address, *, family: str | None = None) -> Connection[Any, Any]:
    """Connects to the listener at an address, without authentication and without a time limit."""
    from ._connection.connector import connected

    return _connection_of(connected(address, family or address_type(address), None))


# --- proving the knowledge of a key ---


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Makes the other side of a connection prove that it knows the key.

    Args:
        connection: any object with send_bytes(bytes) and recv_bytes(maxlength).
        authkey: the key.
        digest_name: the digest to ask for (md5, sha256, sha384, sha3_256, sha3_384).

    Raises:
        AuthenticationError: the other side does not know the key.
        ValueError: `authkey` is not bytes.
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
    """Proves to the other side of a connection that this side knows the key.

    Args:
        connection: any object with send_bytes(bytes) and recv_bytes(maxlength).
        authkey: the key.

    Raises:
        AuthenticationError: the other side rejects the proof.
        ValueError: `authkey` is not bytes.
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


if TYPE_CHECKING:

    @overload
    def wait(
        object_list: Iterable[_ConnectionBase[S, R] | socket.socket | int], timeout: float | None = None
    ) -> list[_ConnectionBase[S, R] | socket.socket | int]: ...
    @overload
    def wait(object_list: Iterable[T], timeout: float | None = None) -> list[T]: ...


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Waits until at least one of the objects is ready.

    Connections and sockets are ready when there is something to receive, or the end; sentinels of processes when the
    process has ended; queues when they are not empty; events when they are set; descriptors and other objects with a
    `fileno()` when they are readable.

    Args:
        object_list: the objects.
        timeout: seconds; None: without limit; 0 or less: returns at once.

    Returns:
        the objects that are ready, in their order; an empty list if none was in that time.

    Raises:
        TypeError: an object is none of these.
    """
    objects = list(object_list)
    ready = _core._wait(objects, timeout)
    if ready is not None:
        return ready
    try:
        from ._connection.wait import wait_mixed

        return wait_mixed(objects, timeout)
    except OSError as error:
        _core.explain_limit(error, "waiting for several objects")
        raise


# --- messages as XML-RPC ---


class ConnectionWrapper:
    """A connection that converts objects to messages in another way than pickle."""

    def __init__(self, conn: Any, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        """Wraps a connection. dumps, loads: convert an object to bytes and back."""
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
    """A listener whose connections send objects as XML-RPC, which can carry data but no code."""

    def accept(self) -> ConnectionWrapper:  # type: ignore[override]
        """As `Listener.accept`."""
        return ConnectionWrapper(super().accept(), _xml_dumps, _xml_loads)


def XmlClient(*args: Any, **kwargs: Any) -> ConnectionWrapper:
    """As `Client`, for an `XmlListener`."""
    return ConnectionWrapper(Client(*args, **kwargs), _xml_dumps, _xml_loads)


if not TYPE_CHECKING:
    __getattr__ = lending(__name__)
