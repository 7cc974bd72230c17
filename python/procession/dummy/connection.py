"""Connections between threads: objects go through a queue without being pickled."""

from __future__ import annotations

from queue import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ["Client", "Listener", "Pipe"]

families: list[None] = [None]


class Connection:
    """One end of a pipe between threads."""

    def __init__(self, _in: Queue[Any], _out: Queue[Any]) -> None:
        self._in = _in
        self._out = _out
        self.send: Callable[..., None] = _out.put
        self.send_bytes: Callable[..., None] = _out.put
        self.recv: Callable[..., Any] = _in.get
        self.recv_bytes: Callable[..., Any] = _in.get

    def poll(self, timeout: float = 0.0) -> bool:
        """Waits until there is an object to receive, at most `timeout` seconds. Returns whether there is one."""
        if self._in.qsize() > 0:
            return True
        if timeout is not None and timeout <= 0.0:
            return False
        # look without taking: no other thread may take the object in between
        with self._in.not_empty:
            return bool(self._in.not_empty.wait_for(lambda: self._in._qsize() > 0, timeout))

    def close(self) -> None:
        """Does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Listener:
    """Accepts connections of `Client`. Its address is a queue."""

    def __init__(self, address: Any = None, family: Any = None, backlog: int = 1) -> None:
        self._backlog_queue: Queue[Any] | None = Queue(backlog)

    def accept(self) -> Connection:
        """Waits for the next client. Returns the connection."""
        assert self._backlog_queue is not None, "the listener is closed"
        return Connection(*self._backlog_queue.get())

    def close(self) -> None:
        """Accepts no more clients."""
        self._backlog_queue = None

    @property
    def address(self) -> Any:
        """The argument of `Client`."""
        return self._backlog_queue

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def Client(address: Any) -> Connection:
    """Connects to a listener."""
    here: Queue[Any] = Queue()
    there: Queue[Any] = Queue()
    address.put((here, there))
    return Connection(there, here)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:
    """Returns two connected ends."""
    here: Queue[Any] = Queue()
    there: Queue[Any] = Queue()
    return Connection(here, there), Connection(there, here)
