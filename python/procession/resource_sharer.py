"""Descriptors for other processes to fetch, whenever they unpickle what names them.

A descriptor cannot travel inside a pickle. So a copy of it stays here, with a name that travels; whoever unpickles the
name connects to this process and fetches the copy. A thread waits for that, from the first descriptor on. The
connection is authenticated with the key of the process.
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
    from typing import Any

    from .connection import Connection, Listener

    Identity = tuple[str, bytes]

__all__ = ["DupFd", "stop"]

_register_farewell()

PATIENCE = 10.0  # seconds that one who fetches may take to say the next thing
TAKEN, FAILED, UNKNOWN, HERE = b"taken", b"failed", b"unknown", b"here"
END = b"end"


class DupFd:
    """Something picklable whose `detach()` returns a copy of a descriptor, once, in the process that unpickles it."""

    def __init__(self, fd: int) -> None:
        """fd: is copied now, so it may be closed afterwards."""
        copy = os.dup(fd)
        os.set_inheritable(copy, False)
        self._id = _resource_sharer.register(
            lambda conn, pid: reduction.send_handle(conn, copy, pid), lambda: os.close(copy), copy
        )

    def detach(self) -> int:
        """The descriptor, which belongs to the caller from now on.

        OSError: the process that has it has ended, or this one has no free descriptors (EMFILE; it can be tried again
        then). KeyError: it was fetched before.
        """
        mine = _resource_sharer.take(self._id)
        if mine is not None:
            return mine
        with _resource_sharer.get_connection(self._id) as conn:
            if conn.recv_bytes(16) != HERE:
                raise KeyError("this descriptor was fetched before, or is offered no more")
            try:
                fd = reduction.recv_handle(conn)
            except OSError:
                os.read(conn.fileno(), 1)  # it came with this; a socket that is closed unread takes its last word along
                conn.send_bytes(FAILED)
                raise
            conn.send_bytes(TAKEN)
            return fd


class _ResourceSharer:
    """What this process offers, and the thread that hands it out."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = allocate_lock()
        # key -> how to send it, how to close it, the descriptor if it is one
        self._offers: dict[bytes, tuple[Callable[[Any, int], object], Callable[[], object], int | None]] = {}
        self._listener: Listener | None = None
        self._thread: Thread | None = None

    def register(
        self, send: Callable[[Any, int], object], close: Callable[[], object], fd: int | None = None
    ) -> Identity:
        """Offers something: send(connection, pid) hands it out, close() drops it. Returns its name."""
        with self._lock:
            if self._listener is None:
                self._start()
            assert self._listener is not None
            key = os.urandom(16)
            self._offers[key] = (send, close, fd)
            return self._listener.address, key

    def take(self, identity: Identity) -> int | None:
        """The descriptor of that name if it is this very process that offers it."""
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
    def get_connection(identity: Identity) -> Connection:
        """A connection to the process that offers this, which has been told what is wanted."""
        from .connection import Client

        address, key = identity
        conn: Any = Client(address, authkey=process.current_process().authkey)
        conn.send_bytes(key)
        return conn  # type: ignore[no-any-return]

    def stop(self, timeout: float | None = None) -> None:
        """Ends the thread and drops what nobody has fetched."""
        from .connection import Client

        with self._lock:
            listener, thread, offers = self._listener, self._thread, self._offers
            self._offers, self._listener, self._thread = {}, None, None
        # unlocked: the thread may need the lock for the one that it serves now
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
        """In a forked child: what the parent offers is the parent's to hand out."""
        offers, listener = self._offers, self._listener
        self._reset()
        for _, close, _ in offers.values():
            close()
        if listener is not None:
            listener.close()

    def _start(self) -> None:
        # All that the thread needs is imported here: a child that is forked while it imports finds the module locked.
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
                # out of descriptors, most likely; or the other side is gone
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
                    self._offers[key] = offer  # it will be tried again
            if not again:
                close()
        return None


_resource_sharer = _ResourceSharer()
os.register_at_fork(after_in_child=_resource_sharer._after_fork)
stop = _resource_sharer.stop

if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
