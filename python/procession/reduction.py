"""Pickles objects, above all descriptors, for other processes."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import sys

from . import _core, context, process
from ._process.stdlib_compat import standard_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar, Final

    Reducer = Callable[[Any], "str | tuple[Any, ...]"]

__all__ = [
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

HAVE_SEND_HANDLE = True  # as everywhere on Linux
ACKNOWLEDGE = False  # not needed on Linux


class ForkingPickler(pickle.Pickler):
    """A pickler with its own reducers, for types that can be pickled only for other processes."""

    _extra_reducers: ClassVar[dict[type, Reducer]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dispatch_table: dict[type, Reducer] = {  # pyright: ignore[reportIncompatibleVariableOverride]
            **copyreg.dispatch_table,
            **_reducers(),
            **self._extra_reducers,
        }

    @classmethod
    def register(cls, type: type, reduce: Reducer) -> None:
        """Pickles objects of exactly this type by reduce(obj), as `copyreg.pickle` does, but only between processes.

        Queues use the reducer as well, and are slower from then on.
        """
        cls._extra_reducers[type] = reduce
        _core._use_custom_reducers(True)

    @classmethod
    def dumps(cls, obj: Any, protocol: int | None = None) -> memoryview:
        """Pickles an object. Returns the bytes."""
        buffer = io.BytesIO()
        cls(buffer, protocol).dump(obj)
        return buffer.getbuffer()

    loads: Final = staticmethod(pickle.loads)


register: Final = ForkingPickler.register


def _reducers() -> dict[type, Reducer]:
    """Returns the reducers that were registered, here and with the standard library's pickler."""
    _register_defaults()
    theirs = standard_library("reduction")
    return {
        **({} if theirs is None else theirs.ForkingPickler._extra_reducers),
        **ForkingPickler._extra_reducers,
    }


def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
    """Pickles an object into a file."""
    ForkingPickler(file, protocol).dump(obj)


def _dumps_slow(obj: Any) -> bytes:
    """Pickles for queues what plain pickle cannot, or what it must not because a program has registered a reducer.

    Buffers go out of band. Functions and classes go by value if the receiver may not find them by name.
    """
    from ._serialize import by_value as _by_value

    def plain(obj: Any) -> bytes:
        file = io.BytesIO()
        ForkingPickler(file, 5, buffer_callback=_core._collect_buffer).dump(obj)
        return file.getvalue()

    return _by_value.dumps(obj, plain, _core._forget_collected, _core._collect_buffer)


# --- descriptors ---


def sendfds(sock: socket.socket, fds: Iterable[int]) -> None:
    """Sends descriptors over a Unix socket. The receiver must know their greatest number."""
    import socket

    fds = list(fds)
    socket.send_fds(sock, [bytes([len(fds) % 256])], fds)


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receives up to `size` descriptors that `sendfds` sent. They are not inheritable.

    Raises:
        EOFError: the other side has closed the socket.
        RuntimeError: other descriptors arrived than were sent; they are closed.
        OSError: (EMFILE) this process has no free numbers for them. They are not lost: close something and call again.
    """
    import array
    import errno
    import socket

    # The kernel drops descriptors for which there is no number. So peek first, and take them only if all are there.
    flags = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
    numbers = array.array("i")
    message, control, came, _ = sock.recvmsg(1, socket.CMSG_SPACE(size * numbers.itemsize), flags)
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    fds = numbers.tolist()
    try:
        if not message and not fds:
            raise EOFError("the socket was closed before descriptors came")
        if came & socket.MSG_CTRUNC and len(fds) < min(size, message[0] or size):
            raise OSError(errno.EMFILE, "this process has no file descriptors free to receive others (see `ulimit -n`)")
        sock.recv(1)
        if not fds or len(fds) % 256 != message[0]:
            raise RuntimeError(f"{len(fds)} descriptors came with {message!r}, which is not what sendfds() sends")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Sends a descriptor over a connection that is a Unix socket. destination_pid: ignored."""
    with _socket_of(conn) as sock:
        sendfds(sock, [handle])


def recv_handle(conn: Any) -> int:
    """Receives a descriptor over a connection that is a Unix socket."""
    with _socket_of(conn) as sock:
        return recvfds(sock, 1)[0]


def _socket_of(conn: Any) -> socket.socket:
    import socket

    sock = socket.socket(fileno=os.dup(conn.fileno()))
    if socket.getdefaulttimeout() is not None:  # it does not apply to a connection
        sock.settimeout(None)
    return sock


def DupFd(fd: int) -> Any:
    """Returns a picklable object. Where it is unpickled, its `detach()` returns a copy of this descriptor."""
    popen = context.get_spawning_popen()
    if popen is not None:
        return popen.DupFd(popen.duplicate_for_child(fd))
    from .resource_sharer import DupFd

    return DupFd(fd)


# --- predefined reducers ---
# pickle itself pickles methods and partial objects.


def _register_defaults() -> None:
    # a program that has a socket has imported the module
    socket = sys.modules.get("socket")
    if socket is not None:
        ForkingPickler._extra_reducers.setdefault(socket.socket, _reduce_socket)


def _reduce_socket(sock: socket.socket) -> tuple[Callable[..., socket.socket], tuple[Any, ...]]:
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(duplicate: Any, family: int, type: int, proto: int) -> socket.socket:
    import socket

    return socket.socket(family, type, proto, fileno=duplicate.detach())


class AbstractReducer:
    """The base class for replacements of this module (`context.reducer = ...`)."""

    ForkingPickler = ForkingPickler
    register = register
    dump: Final = staticmethod(dump)
    send_handle: Final = staticmethod(send_handle)
    recv_handle: Final = staticmethod(recv_handle)
    sendfds: Final = staticmethod(sendfds)
    recvfds: Final = staticmethod(recvfds)
    DupFd: Final = staticmethod(DupFd)

    _reduce_socket = staticmethod(_reduce_socket)
    _rebuild_socket = staticmethod(_rebuild_socket)

    def __init__(self, *args: Any) -> None:
        _register_defaults()


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
