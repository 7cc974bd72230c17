"""The server of a manager: it holds the objects, and calls their methods for clients.

Each thread of a client has its own thread here, so a method that waits (`Lock.acquire`, `Queue.get`) makes no other
client wait. Requests from the server's family come through a channel of family memory. A loop in Rust
(`_core.RpcChannel.serve`) serves them: it calls the method itself and calls this class for everything else. Other
requests come through a connection, whose loop is here.

There are three more threads. One reads the control queue, where members of the family leave their channels and say
which references they take and drop. One accepts connections. One watches which members of the family have ended, to
drop their references.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from contextlib import suppress
from traceback import format_exc, format_exception
from typing import ClassVar

from .. import _core, process, util
from .client import control_queue_of, listener_client, tls_options
from .objects import Objects
from .protocol import ERROR, GREETING, MARK, PROXY, RAISED, RETURN, TRACEBACK, UNSERIALIZABLE, Token, receive, send
from .refcounts import ANYBODY, Watch
from .rollback import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from threading import Event as ThreadEvent
    from threading import Thread
    from typing import Any

    from .objects import ObjectEntry, Parts
    from .refcounts import References

__all__ = ["Server", "public_methods"]

LONGEST_ACCEPT = 1.0  # seconds in which the thread that accepts ends when the server stops


def public_methods(obj: Any) -> list[str]:
    """Returns the methods of an object whose names do not begin with an underscore."""
    return [name for name in dir(obj) if name[0] != "_" and callable(getattr(obj, name))]


def _shut_down(connection: Any) -> None:
    """Ends a connection for both sides. (Closing it does not wake a thread that reads from it.)"""
    import socket

    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


class _Ended(Exception):
    """Raised when a connection has ended."""


class Server:
    """The server behind a manager. `BaseManager.get_server()` returns one, `serve_forever()` runs it.

    The methods whose names are in `public` answer requests to the server itself. Their first argument is the connection
    of the request, or None.
    """

    public: ClassVar[list[str]] = [
        "shutdown",
        "create",
        "accept_connection",
        "get_methods",
        "debug_info",
        "number_of_objects",
        "dummy",
        "incref",
        "decref",
    ]

    def __init__(
        self, registry: dict[str, Any], address: Any, authkey: bytes, serializer: str, *, tls: Any = None
    ) -> None:
        """registry: that of `BaseManager.register`. tls: an `ssl.SSLContext`, or a function that makes one."""
        from threading import Event, Lock, local

        from ..queues import SimpleQueue

        if not isinstance(authkey, bytes):
            raise TypeError(f"authkey should be a byte string, not {type(authkey).__name__}")
        self.registry = registry
        self.authkey: process.AuthenticationString = process.AuthenticationString(authkey)
        self.listener: Any = listener_client[serializer][0](
            address=address, backlog=128, authkey=authkey, **tls_options(tls)
        )
        self.address: Any = self.listener.address
        self.objects: Objects = Objects()
        self.id_to_obj: dict[str, Parts] = self.objects.in_reach
        self.references: References = self.objects.references
        self.stop_event: ThreadEvent = Event()
        self._mutex = Lock()
        self._serving = local()
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.control_queue: bytes = control_queue_of(self._queue.handle, _core.seat())
        self._turn = Lock()  # held while a thread reads the control queue
        self._watch = Watch()
        self._channels: dict[_core.RpcChannel, Any] = {}  # to the queue in which the requests come
        self._accepting: Thread | None = None
        self._connections: set[Any] = set()  # changed under the mutex, as `_stop` uses their descriptors
        self._connected: dict[str, int] = {}  # number of connections of each remote process
        util.register_after_fork(self, Server._forked)

    def _forked(self) -> None:
        """Called in a forked child. The parent serves the clients; the child must not keep the listener open."""
        with suppress(Exception):
            os.close(self.listener._listener._socket.detach())

    # --- running ---

    def serve_forever(self) -> None:
        """Serves until a client asks for the shutdown, and then exits (SystemExit)."""
        from threading import Thread

        process.current_process()._manager_server = self  # type: ignore[attr-defined]
        try:
            for work in (self._attend, self._look_after):
                Thread(target=work, name=f"manager{work.__name__}", daemon=True).start()
            accepting = Thread(target=self._accept, name="manager_accept", daemon=True)
            accepting.start()
            self._accepting = accepting
            with suppress(KeyboardInterrupt, SystemExit):
                self.stop_event.wait()
        finally:
            self._stop()
            if sys.stdout != sys.__stdout__:
                sys.stdout = sys.__stdout__
                sys.stderr = sys.__stderr__
            sys.exit(0)

    def _stop(self) -> None:
        self.stop_event.set()
        with suppress(Exception):
            import socket

            # Wakes the thread that accepts; closing alone does not wake it. And the thread must not wait on the
            # descriptor when its number is another file's.
            self.listener._listener._socket.shutdown(socket.SHUT_RDWR)
            if self._accepting is not None:
                self._accepting.join(LONGEST_ACCEPT)
        with suppress(Exception):
            self.listener.close()
        with self._turn, suppress(Exception):
            self._queue._shut_down()
            while not self._queue.empty():
                kind, *rest = self._queue.get()
                if kind == "channel":
                    rest[-1]._shut_down()  # a client that waits there for an answer raises now
        for channel, requests in list(self._channels.items()):  # at once: its threads remove them
            with suppress(Exception):
                channel.hang_up()
                requests._shut_down()  # the thread that waits for requests ends
        with self._mutex:
            for connection in self._connections:
                with suppress(Exception):
                    _shut_down(connection)
        with self._turn:
            self._watch.close()

    def end_with(self, manager: process.BaseProcess | None) -> None:
        """Ends the server when that process has ended, which should have shut it down.

        OSError: it cannot watch the process, because no descriptor is free. The server must not start then, since it
        would outlive the process.
        """
        from threading import Thread

        sentinel = None if manager is None else manager.sentinel

        def wait() -> None:
            if sentinel is not None:
                _core._poll([(sentinel, 1)], None)
                self.stop_event.set()

        Thread(target=wait, name="manager_end", daemon=True).start()

    def _attend(self) -> None:
        while not self.stop_event.is_set():
            self._queue._wait_for_item(None)
            self.catch_up()

    def _look_after(self) -> None:
        while self._watch.wait():
            self.catch_up()

    def catch_up(self) -> None:
        """Reads all messages of the control queue, and drops the references of processes that have ended."""
        with self._turn:
            # in this order, so that messages which a process left before its end are read before its end is handled
            ended = self._watch.ended()
            while not self._queue.empty() and not self._queue.is_shutdown:
                try:
                    self._notice(self._queue.get())
                except Exception:  # a process has put an invalid message there, or has ended meanwhile
                    util.info("the manager cannot use a message of its control queue: %s", format_exc())
                self._queue._task_done()
        for gone in ended:
            self.references.forget(gone)
        self.objects.gone.clear()  # deletes objects, so without a lock

    def _notice(self, message: tuple[Any, ...]) -> None:
        kind, *rest = message
        if kind == "shutdown":
            util.debug("manager received shutdown message")
            self.stop_event.set()
            return
        self._watch.add(rest[0])
        if kind == "channel":
            from threading import Thread

            try:
                Thread(target=self._serve_channel, args=rest, name=rest[2], daemon=True).start()
            except Exception:  # no memory, or too many threads
                rest[-1]._shut_down()
                raise
        elif kind == "incref":
            self.objects.take(*rest)
        elif kind == "decref":
            self.references.drop(*rest)

    # --- the family ---

    def _serve_channel(
        self, who: tuple[int, int], seat: tuple[int, int], name: str, requests: Any, answers: Any
    ) -> None:
        try:
            channel = _core.RpcChannel(answers, requests, *seat)
        except EOFError:  # the client has ended already
            return
        self._serving.holder = who
        self._serving.foreign = False
        pinned_until_ack: list[ObjectEntry] = []
        self._serving.pinned_until_ack = pinned_until_ack
        self._channels[channel] = requests
        try:
            if not self.stop_event.is_set():
                channel.serve(self.id_to_obj, self, self._queue, UNDO, pinned_until_ack)
        finally:
            self._channels.pop(channel, None)
            channel.hang_up()
            self._watch_again(who)
            if pinned_until_ack:
                self.catch_up()  # the client's thread has ended, and may have left a message about its reference

    def _watch_again(self, holder: Hashable) -> None:
        """Watches the process of a client again when a thread that served it has ended. If the process had ended
        before, this drops what was done for it since then: an object was made, but its maker could not get it.
        """
        if isinstance(holder, tuple):
            with self._turn:
                self._watch.add(holder)

    def pin_until_ack(self, kept: ObjectEntry) -> None:
        """Called when this thread pickles a proxy. Holds its object until the client's next request: by then the client
        has a reference. The answer may have taken the last proxy out of the server (`pop`, `get`).
        """
        pinned_until_ack = getattr(self._serving, "pinned_until_ack", None)
        if pinned_until_ack is not None:
            pinned_until_ack.append(kept)

    # --- called by `RpcChannel.serve` and by the loop of connections ---

    def unusual(self, request: Any) -> tuple[str, Any]:
        """Returns the answer to a request."""
        ident = name = None
        try:
            ident, name, args, kwds = request
            if ident is None:
                return RETURN, self._command(None, name, args, kwds)
            return self._called(request, ident, name, args, kwds)
        except Exception:
            return TRACEBACK, format_exc()

    def _called(self, request: Any, ident: str, name: str, args: Any, kwds: Any) -> tuple[str, Any]:
        from .dict_views import without_views

        obj, exposed, typeids = self.objects.keep(ident).parts
        if name not in exposed or not hasattr(obj, name):
            fallback = self.fallback_mapping.get(name)
            if fallback is not None:
                return RETURN, fallback(self, None, ident, obj, *args, **kwds)
            if name not in exposed:
                raise AttributeError(f"method {name!r} of {type(obj)!r} object is not in exposed={set(exposed)!r}")
        function = getattr(obj, name)
        try:
            result = function(*args, **kwds)
        except BaseException as error:
            return self.raised(request, error)
        typeid = None if typeids is None else typeids.get(name)
        if typeid:
            found, methods = self.create(None, typeid, result)
            return PROXY, (methods, Token(typeid, self.address, found, control_queue=self.control_queue))
        return RETURN, without_views(result)

    def raised(self, request: Any, error: BaseException) -> tuple[str, Any]:
        """Returns the answer to a request whose method raised this."""
        if not isinstance(error, Exception):
            return TRACEBACK, "".join(format_exception(error))
        if getattr(self._serving, "foreign", True):
            return ERROR, error
        from ..reduction import ForkingPickler

        # From here on, since the frames above it are the server's own.
        text = "".join(format_exception(type(error), error, error.__traceback__))
        try:
            pickled = bytes(ForkingPickler.dumps(error))
        except Exception:
            return UNSERIALIZABLE, text
        return RAISED, (pickled, text)

    def unreadable(self, error: BaseException) -> tuple[str, Any]:
        """Returns the answer to a request that could not be unpickled."""
        return TRACEBACK, "".join(format_exception(error))

    def unsendable(self, error: BaseException) -> tuple[str, Any]:
        """Returns the answer in place of one that could not be pickled."""
        return UNSERIALIZABLE, "".join(format_exception(error))

    def undelivered(self, request: Any, value: Any) -> None:
        """Takes back the result of a call whose caller has gone before it got the answer, so that others get it."""
        ident, name, _, _ = request
        entry = self.id_to_obj.get(ident)
        if entry is not None:
            UNDO[name](entry[0], value)

    # --- connections ---

    def _accept(self) -> None:
        from threading import Thread

        from ..context import AuthenticationError

        while not self.stop_event.is_set():
            try:
                connection = self.listener.accept()
            except AuthenticationError as error:
                util.info("the manager refused a client: %s", error)
            except Exception as error:
                if not self.stop_event.is_set():
                    util.info("the manager cannot accept a client: %s", error)
                    time.sleep(0.05)  # most likely there are no free descriptors
            else:
                try:
                    Thread(target=self.handle_request, args=(connection,), daemon=True).start()
                except Exception as error:  # no memory, or too many threads
                    util.info("the manager cannot serve a client: %s", error)
                    connection.close()

    def handle_request(self, conn: Any) -> None:
        """Serves an accepted client: one request to the server itself, or all requests of a thread."""
        name = None
        holder = self._serving.holder = self._holder_behind(conn)
        self._serving.foreign = True
        with self._mutex:
            self._connections.add(conn)
        try:
            if self.stop_event.is_set():
                raise _Ended
            request, answer = self._received(conn)
            if answer is None:
                try:
                    ident, name, args, kwds = request
                    if ident is not None:
                        raise ValueError("the first request through a connection is one to the server itself")
                    answer = RETURN, self._command(conn, name, args, kwds)
                except Exception:
                    answer = TRACEBACK, format_exc()
            if name not in ("accept_connection", "shutdown"):  # these send their answer themselves
                self._send(conn, answer)
        except _Ended:
            pass
        finally:
            with self._mutex:
                self._connections.discard(conn)
            with suppress(Exception):
                conn.close()
            self._watch_again(holder)

    def _received(self, connection: Any) -> tuple[Any, Any]:
        """Returns the next request and None, or None and the answer to one that could not be unpickled.

        _Ended: there are no more requests.
        """
        here = []
        try:
            return receive(connection, lambda: here.append(True)), None
        except Exception:
            if not here:
                raise _Ended from None
            return None, (TRACEBACK, format_exc())

    def _holder_behind(self, connection: Any) -> Hashable:
        """Returns the process at the other end of a Unix socket (so of this machine); else `ANYBODY`."""
        import socket

        try:
            with socket.socket(fileno=os.dup(connection.fileno())) as sock:
                if sock.family != socket.AF_UNIX:
                    return ANYBODY
                pid, _, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return ANYBODY
        start = _core.start_time(pid) if pid else 0  # 0: the process is in a PID namespace unknown here
        if not start:
            return ANYBODY
        with self._turn:
            self._watch.add((pid, start))
        return pid, start

    def accept_connection(self, c: Any, name: str) -> None:
        """Serves the requests of a client's thread with that name, until it closes the connection."""
        from threading import current_thread

        plain, mark, client = name.partition(MARK)
        current_thread().name = plain
        if not mark:
            send(c, (RETURN, None), True)
            return self.serve_client(c)
        client = client.rstrip("]")
        self._serving.holder, self._serving.foreign = client, False
        with self._mutex:
            self._connected[client] = self._connected.get(client, 0) + 1
        try:
            send(c, (RETURN, (GREETING, self.control_queue)), True)
            return self.serve_client(c)
        finally:
            with self._mutex:
                self._connected[client] -= 1
                last = not self._connected[client]
                if last:
                    del self._connected[client]
            if last:
                self.references.forget(client)
                self.objects.gone.clear()

    def serve_client(self, conn: Any) -> None:
        """Answers the requests of a connection."""
        pinned_until_ack: list[ObjectEntry] = []
        self._serving.pinned_until_ack = pinned_until_ack
        while not self.stop_event.is_set():
            request, answer = self._received(conn)
            pinned_until_ack.clear()
            if answer is None:
                if self._queue._unfinished():
                    self.catch_up()
                answer = self.unusual(request)
            if not self._send(conn, answer):
                if answer[0] == RETURN and request is not None and request[1] in UNDO:
                    self.undelivered(request, answer[1])
                return
            del request, answer

    def _send(self, connection: Any, answer: tuple[str, Any]) -> bool:
        foreign = self._serving.foreign
        try:
            try:
                send(connection, answer, foreign)
            except OSError:
                return False
            except Exception as error:
                send(connection, self.unsendable(error), foreign)
        except Exception as error:
            util.info("an answer could not be sent: %s", error)
            return False
        return True

    # --- requests to the server itself ---

    def _command(self, connection: Any, name: str, args: Any, kwds: Any) -> Any:
        if name not in self.public:
            raise AttributeError(f"{name!r} unrecognized: the server has no public method of that name")
        return getattr(self, name)(connection, *args, **kwds)

    def create(self, c: Any, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, tuple[str, ...]]:
        """Makes an object of a registered type. Returns its ident and its methods; the caller has a reference."""
        make, exposed, method_to_typeid, _ = self.registry[typeid]
        if make is not None:
            obj = make(*args, **kwds)
        elif kwds or len(args) != 1:
            raise ValueError("Without callable, must have one non-keyword argument")
        else:
            obj = args[0]
        if exposed is None:
            exposed = public_methods(obj)
        if method_to_typeid is not None:
            if not isinstance(method_to_typeid, dict):
                raise TypeError(f"method_to_typeid {method_to_typeid!r}: type {type(method_to_typeid)}, not dict")
            exposed = [*exposed, *method_to_typeid]
        parts = (obj, frozenset(exposed), method_to_typeid or None)
        ident = self.objects.add(self._serving.holder, typeid, parts)
        util.debug("%r callable returned object with id %r", typeid, ident)
        return ident, tuple(exposed)

    def get_methods(self, c: Any, token: Any) -> tuple[str, ...]:
        """Returns the methods of the object that a token names."""
        return tuple(self.objects.keep(token.id).parts[1])

    def incref(self, c: Any, ident: str) -> None:
        """Adds a reference of the caller to the object."""
        self.objects.take(self._serving.holder, ident)

    def decref(self, c: Any, ident: str) -> None:
        """Drops a reference of the caller to the object."""
        self.references.drop(self._serving.holder, ident)
        self.objects.gone.clear()

    def debug_info(self, c: Any) -> str:
        """Returns a list of the objects, for people to read: ident, number of references, and `str` of the object."""
        self.catch_up()
        found = []
        for ident, count in sorted(self.references.counts().items()):
            entry = self.id_to_obj.get(ident)
            if entry is not None:
                found.append(f"  {ident}:       refcount={count}\n    {str(entry[0])[:75]}")
        return "\n".join(found)

    def number_of_objects(self, c: Any) -> int:
        """Returns the number of objects with references."""
        self.catch_up()
        return len(self.references)

    def dummy(self, c: Any) -> bytes:
        """Does nothing. The answer says how members of the family find the control queue."""
        return self.control_queue

    def shutdown(self, c: Any) -> None:
        """Ends the server."""
        util.debug("manager received shutdown message")
        if c is not None:
            with suppress(Exception):
                send(c, (RETURN, None), True)
        self.stop_event.set()

    # --- methods of every object ---

    def fallback_getvalue(self, conn: Any, ident: str, obj: Any) -> Any:
        """Returns the object itself."""
        return obj

    def fallback_str(self, conn: Any, ident: str, obj: Any) -> str:
        """Returns `str` of the object."""
        return str(obj)

    def fallback_repr(self, conn: Any, ident: str, obj: Any) -> str:
        """Returns `repr` of the object."""
        return repr(obj)

    def fallback_locked(self, conn: Any, ident: str, obj: Any) -> bool:
        """Returns whether a lock or semaphore is acquired. Before Python 3.14 these have no such method."""
        if hasattr(obj, "_value"):
            return bool(obj._value == 0)
        lock = getattr(obj, "_lock", obj)  # of a condition
        return bool(lock.locked()) if hasattr(lock, "locked") else repr(lock).startswith("<locked")

    fallback_mapping: ClassVar[dict[str, Callable[..., Any]]] = {
        "__str__": fallback_str,
        "__repr__": fallback_repr,
        "#GETVALUE": fallback_getvalue,
        "locked": fallback_locked,
    }
