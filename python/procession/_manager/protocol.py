"""The protocol of managers and their clients: that of `multiprocessing.managers`.

A request is (ident, name, args, kwds), an answer (kind, value). With ident None it is a request to the server itself.
Each of these has its own connection. After the request "accept_connection" the connection serves the proxies of one
thread.

Our clients distinguish our servers from the standard library's by the name that they send with that request: it ends
with `MARK` and the id of the process, and our server answers with `GREETING`, which the standard library never does.
Between a client and a server of ours, requests with ident None go through the same connection, and exceptions bring
their traceback.

If the standard library is at the other end, pickles use its names for objects that both packages have.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType

from ..reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["RemoteError", "Token", "convert_to_error", "dispatch", "receive", "send"]

MARK = " [procession "
GREETING = "procession"  # the first element of our server's answer to a name with the mark

# kinds of answers
RETURN, PROXY, ERROR, TRACEBACK = "#RETURN", "#PROXY", "#ERROR", "#TRACEBACK"
UNSERIALIZABLE = "#UNSERIALIZABLE"
RAISED = "#RAISED"  # ours: an exception with its traceback


class Token:
    """Names an object of a server: its registered type, the address of the server, its ident there.

    control_queue: how members of the server's family find that queue, as bytes; None for the standard library's.
    """

    __slots__ = ("address", "control_queue", "id", "typeid")

    def __init__(self, typeid: str, address: Any, id: str, *, control_queue: bytes | None = None) -> None:
        self.typeid: str = typeid
        self.address: Any = address
        self.id: str = id
        self.control_queue = control_queue

    def __getstate__(self) -> tuple[Any, ...]:
        return self.typeid, self.address, self.id, self.control_queue

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.typeid, self.address, self.id, *control_queue = state
        self.control_queue = control_queue[0] if control_queue else None  # tokens of the standard library have none

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class RemoteError(Exception):
    """Raised for an error in the server that is not an exception of the method. Its text is the server's traceback."""

    def __str__(self) -> str:
        line = "-" * 75
        return f"\n{line}\n{self.args[0]}{line}"


def convert_to_error(kind: str, result: Any) -> BaseException:
    """Returns the exception for an answer that is not the result of a method."""
    if kind == RAISED:
        return _raised_there(*result)
    if kind == ERROR:
        if isinstance(result, BaseException):
            return result
        return TypeError(f"the server answered {kind} with {result!r}, which is no exception")
    if kind in (TRACEBACK, UNSERIALIZABLE):
        if not isinstance(result, str):
            return TypeError(f"the server answered {kind} with {result!r}, which is no text")
        return RemoteError(f"Unserializable message: {result}\n" if kind == UNSERIALIZABLE else result)
    return ValueError(f"Unrecognized message type {kind!r}")


def _raised_there(pickled: bytes | None, text: str) -> BaseException:
    from .._start.exit_report import RemoteTraceback, set_cause

    try:
        error = None if pickled is None else pickle.loads(pickled)
    except Exception:
        error = None
    if not isinstance(error, BaseException):
        return RemoteError(text)
    if error.__cause__ is None:
        set_cause(error, RemoteTraceback(text))
    return error


def dispatch(c: Any, id: str | None, methodname: str, args: tuple[Any, ...] = (), kwds: dict[str, Any] = {}) -> Any:  # noqa: B006 (never changed)
    """Sends a request through a connection. Returns the result of the answer, or raises its exception."""
    c.send((id, methodname, args, kwds))
    kind, result = c.recv()
    if kind == RETURN:
        return result
    try:
        raise convert_to_error(kind, result)
    finally:
        del result  # the exception must not be part of a cycle


# --- messages for either kind of peer ---


def send(connection: Any, obj: Any, foreign: bool) -> None:
    """Sends an object. foreign: the other side is, or may be, the standard library."""
    if foreign and hasattr(connection, "send_bytes") and _pickles(connection):
        connection.send_bytes(dumps_for_them(obj))
    else:
        connection.send(obj)


def receive(connection: Any, received: Callable[[], object] = lambda: None) -> Any:
    """Receives an object, from this package or the standard library. received: called when the message is here, before
    it is unpickled.
    """
    if _pickles(connection):
        message = connection.recv_bytes()
        received()
        return loads(message)
    obj = connection.recv()
    received()
    return obj


def _pickles(connection: Any) -> bool:
    from .._connection.base import _ConnectionBase

    return isinstance(connection, _ConnectionBase)


THEIRS = "multiprocessing.managers"


def _here() -> Any:
    from .. import managers

    return managers


class _TheirModule:
    """Pickled as the standard library's module, without importing that here."""

    def __reduce__(self) -> tuple[Any, ...]:
        from importlib import import_module

        return import_module, (THEIRS,)


class _PicklerForThem(ForkingPickler):
    """Pickles functions and classes of `procession.managers` under their names in multiprocessing."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Token):
            return Token, (obj.typeid, obj.address, obj.id)
        if isinstance(obj, (type, FunctionType)) and (obj.__module__ or "").startswith("procession."):
            name = obj.__qualname__
            if obj is getattr(_here(), name, None):
                return getattr, (_TheirModule(), name)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Unpickles names of `multiprocessing.managers` as our objects with these names."""

    def find_class(self, module: str, name: str) -> Any:
        if module == THEIRS:
            found = getattr(_here(), name, None)
            if found is not None:
                return found
        return super().find_class(module, name)


def dumps_for_them(obj: Any) -> memoryview:
    """Pickles an object for the standard library."""
    buffer = io.BytesIO()
    _PicklerForThem(buffer).dump(obj)
    return buffer.getbuffer()


def loads(message: bytes) -> Any:
    """Unpickles an object that this package or the standard library has pickled."""
    if THEIRS.encode() not in message:
        return pickle.loads(message)
    return _Unpickler(io.BytesIO(message)).load()
