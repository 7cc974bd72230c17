"""Offers descriptors to other processes, which fetch them when they unpickle their names.

A pickle cannot contain a descriptor. So this process keeps a copy, and the pickle contains a name. A process that
unpickles the name connects to this process and fetches the copy. A thread waits for such processes, from the first
descriptor on. The connection is authenticated with the key of the process.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import allocate_lock

from . import process, reduction
from .context import ProcessError
from .process import _register_farewell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any, Final

    from .connection import Connection, Listener

    Identity = tuple[str, bytes]

__all__ = ["DupFd", "stop"]

_register_farewell()

PATIENCE = 10.0  # seconds that a client may take for its next message
TAKEN, FAILED, UNKNOWN, HERE = b"taken", b"failed", b"unknown", b"here"
END = b"end"


class DupFd:
    """A picklable object whose `detach()` returns a copy of a descriptor, once, in the process that unpickles it."""

    def __init__(self, fd: int) -> None:
        """fd: it is copied now, so it may be closed afterwards."""
        copy = os.dup(fd)
        os.set_inheritable(copy, False)
        self._id = _resource_sharer.register(
            lambda conn, pid: reduction.send_handle(conn, copy, pid), lambda: os.close(copy), copy
        )

    def detach(self) -> int:
        """Returns the descriptor, which the caller then owns.

        OSError: the process that offers it has ended, or this process has no free descriptors (EMFILE; then call it
        again). KeyError: it was fetched before.
        """
        mine = _resource_sharer.take(self._id)
        if mine is not None:
            return mine
        with _resource_sharer.get_connection(self._id) as conn:
            if conn.recv_bytes(16) != HERE:
                raise KeyError("this descriptor was fetched before, or is not offered any more")
            try:
                fd = reduction.recv_handle(conn)
            except OSError:
                os.read(conn.fileno(), 1)  # it came with this byte; closing a socket with unread data loses the answer
                conn.send_bytes(FAILED)
                raise
            conn.send_bytes(TAKEN)
            return fd


class _ResourceSharer:
    """The descriptors that this process offers, and the thread that sends them."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = allocate_lock()
        # key -> function that sends it, function that closes it, the descriptor if it is one
        self._offers: dict[bytes, tuple[Callable[[Any, int], object], Callable[[], object], int | None]] = {}
        self._listener: Listener | None = None
        self._thread: Thread | None = None

    def register(
        self, send: Callable[[Any, int], object], close: Callable[[], object], fd: int | None = None
    ) -> Identity:
        """Offers something: send(connection, pid) sends it, close() drops it. Returns its name."""
        with self._lock:
            if self._listener is None:
                self._start()
            assert self._listener is not None
            key = os.urandom(16)
            self._offers[key] = (send, close, fd)
            return self._listener.address, key

    def take(self, identity: Identity) -> int | None:
        """Returns the descriptor of that name if this process itself offers it; else None."""
        address, key = identity
        with self._lock:
            listener = self._listener
            if listener is None or listener.address != address:
                return None
            _, _, fd = self._offers.get(key, (None, None, None))
            if fd is not None:
                del self._offers[key]
            return fd

    @staticmethod
    def get_connection(identity: Identity) -> Connection[Any, Any]:
        """Connects to the process that offers this, and tells it the name. Returns the connection."""
        from .connection import Client

        address, key = identity
        conn: Any = Client(address, authkey=process.current_process().authkey)
        conn.send_bytes(key)
        return conn  # type: ignore[no-any-return]

    def stop(self, timeout: float | None = None) -> None:
        """Ends the thread and drops the descriptors that no process has fetched."""
        from .connection import Client

        with self._lock:
            listener, thread, offers = self._listener, self._thread, self._offers
            self._offers, self._listener, self._thread = {}, None, None
        # without the lock: the thread may need it for the client that it is serving
        if listener is not None and thread is not None:
            with Client(listener.address, authkey=listener._authkey) as conn:
                conn.send_bytes(END)
                thread.join(timeout)
            if thread.is_alive():
                from .util import sub_warning

                sub_warning("the thread that hands out descriptors did not stop when asked")
            listener.close()
        for _, close, _ in offers.values():
            close()

    def _after_fork(self) -> None:
        """Called in a forked child. Drops what the parent offers, since the parent goes on offering it."""
        offers, listener = self._offers, self._listener
        self._reset()
        for _, close, _ in offers.values():
            close()
        if listener is not None:
            listener.close()

    def _start(self) -> None:
        # Import now what the thread needs: a child that is forked during an import finds the module locked.
        from signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals
        from threading import Thread

        from ._connection import acceptor as _acceptor  # noqa: F401
        from .connection import Listener
        from .util import debug

        debug("starting the thread that hands out descriptors")
        self._listener = Listener(authkey=process.current_process().authkey, backlog=128)
        self._thread = Thread(target=self._serve, args=(self._listener,), name="procession-descriptors", daemon=True)
        # signals are for the program's own threads
        mask = pthread_sigmask(SIG_BLOCK, valid_signals())
        try:
            self._thread.start()
        finally:
            pthread_sigmask(SIG_SETMASK, mask)

    def _serve(self, listener: Listener) -> None:
        while True:
            try:
                with listener.accept() as conn:
                    if self._serve_one(conn, listener) is END:
                        return
            except OSError:
                # most likely there are no free descriptors, or the other side has gone
                time.sleep(0.01)
            except (EOFError, ProcessError):
                pass
            except Exception as error:
                sys.excepthook(type(error), error, error.__traceback__)

    def _serve_one(self, conn: Any, listener: Listener) -> bytes | None:
        if not conn.poll(PATIENCE):
            return None
        key = conn.recv_bytes(16)
        if key == END:
            return END
        with self._lock:
            offer = self._offers.pop(key, None)
        if offer is None:
            conn.send_bytes(UNKNOWN)
            return None
        send, close, _ = offer
        answer = b""
        try:
            conn.send_bytes(HERE)
            send(conn, 0)
            if conn.poll(PATIENCE):
                answer = conn.recv_bytes(16)
        finally:
            with self._lock:
                again = answer == FAILED and self._listener is listener
                if again:
                    self._offers[key] = offer  # the client will try again
            if not again:
                close()
        return None


_resource_sharer = _ResourceSharer()
os.register_at_fork(after_in_child=_resource_sharer._after_fork)
stop: Final = _resource_sharer.stop

if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
