"""The methods of connections, for kinds of connections that move bytes in their own way."""

from __future__ import annotations

import io

from ..context import BufferTooShort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Generic, Self

    from typing_extensions import Buffer, TypeVar

    # what a connection sends and what it receives; the defaults are for programs that name the class alone
    S = TypeVar("S", contravariant=True, default=Any)
    R = TypeVar("R", covariant=True, default=Any)
else:
    # type arguments are for type checkers alone: the base is that without them
    S = R = None
    Generic = {(None, None): object}

__all__ = ["_ConnectionBase"]


class _ConnectionBase(Generic[S, R]):
    """The base class of connections, for `isinstance`. It has all methods for kinds of connections that move bytes in
    their own way: those define `_send_bytes(view)`, `_recv_bytes(maxsize)`, `_poll(timeout)` and `_close()`.
    """

    _handle: int | None
    _readable: bool = True
    _writable: bool = True

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        handle = handle.__index__()
        if handle < 0:
            raise ValueError(f"invalid handle: {handle}")
        if not readable and not writable:
            raise ValueError("a connection must be readable or writable, or both")
        self._handle = handle
        self._readable = readable
        self._writable = writable

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._close()

    if TYPE_CHECKING:

        def _send_bytes(self, buf: memoryview) -> None: ...
        def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None: ...
        def _poll(self, timeout: float | None) -> bool: ...
        def _close(self) -> None: ...

    def _check_closed(self) -> None:
        if self._handle is None:
            raise OSError("handle is closed")

    def _check_readable(self) -> None:
        if not self._readable:
            raise OSError("connection is write-only")

    def _check_writable(self) -> None:
        if not self._writable:
            raise OSError("connection is read-only")

    def _bad_message_length(self) -> None:
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError("bad message length")

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle is None

    @property
    def readable(self) -> bool:
        """Whether messages can be received."""
        return self._readable

    @property
    def writable(self) -> bool:
        """Whether messages can be sent."""
        return self._writable

    def fileno(self) -> int:
        """Returns the descriptor. OSError: the connection is closed."""
        self._check_closed()
        assert self._handle is not None
        return self._handle

    def close(self) -> None:
        """Closes the connection. The other side gets EOFError."""
        if self._handle is not None:
            try:
                self._close()
            finally:
                self._handle = None

    def send_bytes(self, buf: Buffer, offset: int = 0, size: int | None = None) -> None:
        """Sends `size` bytes of a bytes-like object, from `offset` on; None: all of the rest."""
        self._check_closed()
        self._check_writable()
        view = memoryview(buf).cast("B")
        if offset < 0:
            raise ValueError("offset is negative")
        if offset > len(view):
            raise ValueError("buffer length < offset")
        if size is None:
            size = len(view) - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > len(view):
            raise ValueError("buffer length < offset + size")
        self._send_bytes(view[offset : offset + size])

    def send(self, obj: S) -> None:
        """Sends an object, pickled."""
        from ..reduction import ForkingPickler

        self._check_closed()
        self._check_writable()
        self._send_bytes(ForkingPickler.dumps(obj))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receives a message as bytes. OSError: it is longer than maxlength; nothing can be received after that."""
        self._check_closed()
        self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        return _message(self, maxlength).getvalue()

    def recv_bytes_into(self, buf: Buffer, offset: int = 0) -> int:
        """Receives a message into a writable buffer, from `offset` on. Returns its length.

        BufferTooShort: the message does not fit. The exception's `args[0]` is the message.
        """
        self._check_closed()
        self._check_readable()
        view = memoryview(buf).cast("B")
        if offset < 0:
            raise ValueError("negative offset")
        if offset > len(view):
            raise ValueError("offset too large")
        message = _message(self, None)
        size = message.getbuffer().nbytes
        if size > len(view) - offset:
            raise BufferTooShort(message.getvalue())
        return message.readinto(view[offset : offset + size])

    def recv(self) -> R:
        """Receives an object. EOFError: the other side is closed and no message is left."""
        from ..reduction import ForkingPickler

        self._check_closed()
        self._check_readable()
        return ForkingPickler.loads(_message(self, None).getbuffer())  # type: ignore[no-any-return]

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Waits for a message or the end, up to `timeout` seconds; None: no limit. Returns whether there is one."""
        self._check_closed()
        self._check_readable()
        return self._poll(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def _message(connection: _ConnectionBase[Any, Any], cap: int | None) -> io.BytesIO:
    message = connection._recv_bytes() if cap is None else connection._recv_bytes(cap)
    if message is None:
        connection._bad_message_length()
        raise AssertionError
    return message
