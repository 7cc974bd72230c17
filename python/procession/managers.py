"""Managers: server processes that hold objects, and proxies through which others use them.

A proxy can be sent to any process, also on another machine; the server carries out each call of its methods. Processes
of one family call the server through family memory, others through connections. The protocol of these is that of the
standard library's `multiprocessing.managers`, so each side may use that. A client can make the server execute any code:
a manager that others can reach needs an `authkey` that is hard to guess, and `tls` if the connection goes through a
network.
"""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from . import _core, context, process, util
from ._manager.client import Remote, listener_client, remote_of, tls_options
from ._manager.dict_views import rebuild_as_list, view_types
from ._manager.protocol import RemoteError, Token, convert_to_error, dispatch
from ._manager.proxies import AutoProxy, BaseProxy, MakeProxyType, RebuildProxy
from ._manager.server import Server, public_methods
from ._manager.types import (
    AcquirerProxy,
    Array,
    ArrayProxy,
    BarrierProxy,
    BasePoolProxy,
    ConditionProxy,
    EventProxy,
    IteratorProxy,
    Namespace,
    NamespaceProxy,
    PoolProxy,
    Value,
    make_pool,
)
from ._process.stdlib_context import own_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

    from . import shared_memory
    from ._manager_types import BaseDictProxy as BaseDictProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import BaseListProxy as BaseListProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import BaseSetProxy as BaseSetProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import DictProxy as DictProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import ListProxy as ListProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import SetProxy as SetProxy  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import SyncBase  # pyright: ignore[reportMissingModuleSource]
    from ._manager_types import ValueProxy as ValueProxy  # pyright: ignore[reportMissingModuleSource]
else:
    from ._manager.types import BaseDictProxy, BaseListProxy, BaseSetProxy, DictProxy, ListProxy, SetProxy, ValueProxy

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

# names that programs written for multiprocessing import from here
_ALSO = (
    AcquirerProxy,
    Array,
    ArrayProxy,
    BarrierProxy,
    BaseDictProxy,
    BaseListProxy,
    BasePoolProxy,
    BaseSetProxy,
    MakeProxyType,
    NamespaceProxy,
    RebuildProxy,
    RemoteError,
    convert_to_error,
    dispatch,
    public_methods,
    rebuild_as_list,
    view_types,
)

for _public in tuple(globals().values()):
    if getattr(_public, "__module__", "").startswith(f"{__package__}._"):
        _public.__module__ = __name__  # the public name, which pickles use

HAS_SHMEM = True


def __getattr__(name: str) -> Any:
    if name == "SharedMemoryServer":
        from ._manager.segment_server import SharedMemoryServer

        return SharedMemoryServer
    return _lend(name)


_lend = process.lending(__name__)


def _options(tls: Any) -> dict[str, Any]:
    """Returns the arguments of a server that multiprocessing's does not know: only those that the program uses."""
    return {} if tls is None else {"tls": tls}


class State:
    """The state of a manager."""

    __slots__ = ("value",)
    INITIAL, STARTED, SHUTDOWN = 0, 1, 2

    def __init__(self) -> None:
        self.value: int = State.INITIAL


def _forks(ctx: Any) -> bool:
    """Returns whether the processes of a context are forked. A program's own context may not say: then False."""
    try:
        return bool(ctx.get_start_method() == "fork")
    except AttributeError:
        return False


class BaseManager:
    """A server process that holds objects of registered types, and its clients' side.

    `start()` starts the server in a child process, `connect()` connects to a running one, `get_server()` makes one for
    this process. For each registered type there is a method of that name, which makes an object in the server and
    returns its proxy.

    Difference from multiprocessing: `tls`; the references of a process end with it, however it ends; if a client has
    died that waited for a lock or an item of a queue, the server does not give it the lock or item.
    """

    _registry: ClassVar[dict[str, tuple[Any, Any, Any, Any]]] = {}
    _Server: ClassVar[type[Server]] = Server

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: context.BaseContext | None = None,
        *,
        shutdown_timeout: float = 1.0,
        tls: Any = None,
        name: str | None = None,
    ) -> None:
        """Prepares a manager; `start()`, `connect()` or a `with` statement makes it usable.

        Args:
            address: where the server listens; None: a free name.
            authkey: clients prove that they know it; None: the key of this process.
            serializer: "pickle" or "xmlrpclib".
            ctx: the context that starts the server.
            shutdown_timeout: seconds that the server has to end before it is terminated.
            tls: an `ssl.SSLContext`, or a function without arguments that makes one: of the server's side if this
                manager starts it, of the client's side if it connects. Only a function can be sent to other processes:
                with "spawn" and "forkserver" to the server, and with proxies.
            name: of the server process that `start()` starts, for people to read and for observers of the running
                program; None: the name of the class and a number.
        """
        if authkey is None:
            authkey = process.current_process().authkey
        self._address = address
        self._authkey = process.AuthenticationString(authkey)
        self._state = State()
        self._serializer = serializer
        self._Listener, self._Client = listener_client[serializer]
        self._ctx = own_context(ctx or context._default_context.get_context())
        self._shutdown_timeout = shutdown_timeout
        self._procession_tls = tls
        self._procession_name = name
        self._procession_control_queue: bytes | None = None
        self._procession_remote: Remote | None = None
        self._process: process.BaseProcess | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        control_queue, tls = self._procession_control_queue, self._procession_tls
        return _connected, (type(self), self._address, self._authkey, self._serializer, control_queue, tls)

    # --- the server ---

    def get_server(self) -> Server:
        """Makes a server for this process, which `serve_forever()` runs. ProcessError: one was started already."""
        _check_initial(self)
        make = _server_class(type(self))
        return make(self._registry, self._address, self._authkey, self._serializer, **_options(self._procession_tls))

    def connect(self) -> None:
        """Connects to the server at the address.

        Raises:
            OSError: there is no server.
            AuthenticationError: it has another authkey.
        """
        connection = self._Client(self._address, authkey=bytes(self._authkey), **tls_options(self._procession_tls))
        try:
            control_queue = dispatch(connection, None, "dummy")
        finally:
            connection.close()
        # a server of the standard library answers with None
        _found(self, self._address, getattr(control_queue, "data", control_queue))

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Starts the server in a process of its own.

        Args:
            initializer: the server process first calls initializer(*initargs).
            initargs: arguments of `initializer`.

        Raises:
            EOFError: the process has ended before it was ready.
            ProcessError: a server was started already.
        """
        _check_initial(self)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        reader, writer = self._ctx.Pipe(duplex=False)
        server: Any = self._ctx.Process(
            target=type(self)._run_server,
            args=(
                self._registry,
                self._address,
                bytes(self._authkey),
                self._serializer,
                writer,
                initializer,
                tuple(initargs),
                *_options(self._procession_tls).values(),
            ),
        )
        self._process = server
        ident = ":".join(map(str, server._identity))
        named = self._procession_name
        server.name = f"{type(self).__name__}-{ident}" if named is None else str(named)
        if _forks(self._ctx):
            # a forked server may not be able to import it: this process may have changed its user, or its root
            import socket  # noqa: F401
        with reader:
            with writer:
                server.start()
            try:
                address = reader.recv()
                control_queue = reader.recv()
            except EOFError:
                server.join()
                why = process.what_ended(server)
                raise EOFError(f"the manager's server ended before it was ready: {why}") from None
        _found(self, address, control_queue)
        _say_where(self, named)
        self.shutdown = util.Finalize(  # type: ignore[method-assign]
            self,
            type(self)._finalize_manager,
            args=(server, self._procession_remote, self._state, self._shutdown_timeout),
            exitpriority=0,
        )

    @classmethod
    def _run_server(
        cls,
        registry: dict[str, Any],
        address: Any,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        tls: Any = None,
    ) -> None:
        """Runs the server process."""
        import signal

        # Ctrl-C reaches all processes of a terminal; the server serves until its manager ends it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if initializer is not None:
            initializer(*initargs)
        _core._has_role(4)  # for observers
        try:
            server = _server_class(cls)(registry, address, authkey, serializer, **_options(tls))
            server.end_with(process.parent_process())
        except OSError as error:
            _core.explain_limit(error, "starting the manager's server")
            raise
        writer.send(server.address)
        writer.send(server.control_queue)
        writer.close()
        util.info("manager serving at %r", server.address)
        server.serve_forever()

    @staticmethod
    def _finalize_manager(server: Any, remote: Remote, state: State, shutdown_timeout: float) -> None:
        """Ends the server process."""
        if server.is_alive():
            util.info("sending shutdown message to manager")
            with suppress(Exception):
                remote.post("shutdown")
            server.join(timeout=shutdown_timeout)
            if server.is_alive():
                util.info("manager still alive: terminating it")
                server.terminate()
                server.join(timeout=shutdown_timeout)
                if server.is_alive():
                    util.info("manager still alive: killing it")
                    server.kill()
                    server.join()
        state.value = State.SHUTDOWN

    def shutdown(self) -> None:
        """Ends the server process. Only a manager that has started one can do it."""
        raise AttributeError("only a manager that has started its server can shut it down")

    def join(self, timeout: float | None = None) -> None:
        """Waits until the server process has ended, if this manager has started one. timeout: seconds."""
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    @property
    def address(self) -> Any:
        """The address at which the server listens."""
        return self._address

    def __enter__(self) -> Self:
        if self._state.value == State.INITIAL:
            self.start()
        assert self._state.value == State.STARTED, "server not yet started, or shut down"
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()

    # --- objects ---

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Token, Any]:
        """Makes an object in the server, with a reference of this process. Returns its token and its methods' names."""
        ident, exposed = _command(self, "create", typeid, *args, **kwds)
        return Token(typeid, self._address, ident, control_queue=self._procession_control_queue), exposed

    def _debug_info(self) -> Any:
        """Returns a list of the objects in the server, for people to read."""
        return _command(self, "debug_info")

    def _number_of_objects(self) -> Any:
        """Returns how many objects in the server have references."""
        return _command(self, "number_of_objects")

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Iterable[str] | None = None,
        method_to_typeid: dict[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Registers a type of objects.

        Args:
            typeid: the name of the type.
            callable: makes an object, in the server. A manager that only connects needs none.
            proxytype: a class derived from `BaseProxy`; None: one is made from the methods of the object.
            exposed: the methods that proxies may call; None: those in `proxytype._exposed_`, or all whose name does not
                begin with an underscore.
            method_to_typeid: methods whose result stays in the server, and the type of its proxy; None:
                `proxytype._method_to_typeid_`.
            create_method: whether managers get a method of this name that makes an object.
        """
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        proxytype = AutoProxy if proxytype is None else proxytype
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        method_to_typeid = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for name, type_ in (method_to_typeid or {}).items():
            if not isinstance(name, str) or not isinstance(type_, str):
                raise TypeError(f"method_to_typeid has to name methods and types by str, not {name!r}: {type_!r}")
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if create_method:
            setattr(cls, typeid, _creating(typeid, proxytype))


def _creating(typeid: str, proxytype: Any) -> Any:
    def create(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
        util.debug("requesting creation of a shared %r object", typeid)
        token, exposed = self._create(typeid, *args, **kwds)
        assert self._procession_remote is not None
        references = self._procession_remote.references
        references.grant(token.id)
        try:
            return proxytype(token, self._serializer, manager=self, authkey=self._authkey, exposed=exposed)
        finally:
            references.settle(token.id)

    create.__name__ = create.__qualname__ = typeid
    return create


# Not methods, since a program that derives from a manager has names of its own.


def _connected(
    cls: type[BaseManager], address: Any, authkey: bytes, serializer: str, control_queue: bytes | None, tls: Any
) -> BaseManager:
    """Makes a manager that uses a server which another manager has started. For pickle."""
    manager = cls(address, authkey, serializer, tls=tls)
    _found(manager, address, control_queue)
    return manager


def _found(self: BaseManager, address: Any, control_queue: bytes | None) -> None:
    self._address = address
    self._procession_control_queue = control_queue
    token = Token("", address, "", control_queue=control_queue)
    self._procession_remote = remote_of(token, self._serializer, self._authkey, self._procession_tls)
    self._state.value = State.STARTED


def _say_where(self: BaseManager, name: str | None) -> None:
    """Gives the control queue a label, which tells observers the manager's name and the line that starts it."""
    assert self._procession_remote is not None
    with suppress(Exception):  # the server has ended already
        queue = self._procession_remote.open_control_queue()
        if queue is not None:
            _core.Queue._label(queue, "" if name is None else str(name))


def _server_class(cls: type[BaseManager]) -> type[Server]:
    if cls._Server is Server and issubclass(cls, SharedMemoryManager):
        from ._manager.segment_server import SharedMemoryServer

        return SharedMemoryServer
    return cls._Server


def _check_initial(self: BaseManager) -> None:
    if self._state.value == State.INITIAL:
        return
    if self._state.value == State.STARTED:
        raise context.ProcessError("Already started server")
    raise context.ProcessError("Manager has shut down")


def _command(self: BaseManager, name: str, *args: Any, **kwds: Any) -> Any:
    assert self._state.value == State.STARTED, "server not yet started"
    assert self._procession_remote is not None
    return self._procession_remote.command(name, args, kwds)


if not TYPE_CHECKING:
    SyncBase = BaseManager  # its methods are registered below; type checkers find their signatures in the stub


class SyncManager(SyncBase):
    """A manager of the types that processes commonly share. `procession.Manager()` returns one, started.

    Example:
        ```python
        import procession as mp

        def work(results, n):
            results[n] = n * n

        if __name__ == "__main__":
            with mp.Manager() as manager:
                results = manager.dict()
                with mp.Pool(2) as pool:
                    pool.starmap(work, [(results, n) for n in range(3)])
                print(sorted(results.items()))  # [(0, 0), (1, 1), (2, 4)]
        ```
    """


def _register_types() -> None:
    import queue
    import threading

    for typeid, make, proxytype in (
        ("Queue", queue.Queue, None),
        ("JoinableQueue", queue.Queue, None),
        ("Event", threading.Event, EventProxy),
        ("Lock", threading.Lock, AcquirerProxy),
        ("RLock", threading.RLock, AcquirerProxy),
        ("Semaphore", threading.Semaphore, AcquirerProxy),
        ("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy),
        ("Condition", threading.Condition, ConditionProxy),
        ("Barrier", threading.Barrier, BarrierProxy),
        ("Pool", make_pool, PoolProxy),
        ("list", list, ListProxy),
        ("dict", dict, DictProxy),
        ("set", set, SetProxy),
        ("Value", Value, ValueProxy),
        ("Array", Array, ArrayProxy),
        ("Namespace", Namespace, NamespaceProxy),
    ):
        SyncManager.register(typeid, make, proxytype)
    # types of results of methods, which stay in the server
    SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
    SyncManager.register("AsyncResult", create_method=False)


_register_types()


class SharedMemoryManager(BaseManager):
    """A manager whose server removes named segments when it ends. A `with` statement starts and ends the server.

    Processes use the segments themselves without the server.
    """

    def SharedMemory(self, size: int) -> shared_memory.SharedMemory:
        """Makes a named segment of at least `size` bytes. ValueError: the server is not running."""
        from .shared_memory import SharedMemory

        _check_running(self)
        segment = SharedMemory(None, create=True, size=size)
        _tracked(self, segment)
        return segment

    def ShareableList(self, sequence: Iterable[Any]) -> shared_memory.ShareableList:
        """Makes a list in a named segment. ValueError: the server is not running."""
        from .shared_memory import ShareableList

        _check_running(self)
        made = ShareableList(sequence)
        _tracked(self, made.shm)
        return made


def _check_running(self: SharedMemoryManager) -> None:
    if self._state.value != State.STARTED:
        raise ValueError(
            "the manager of shared memory is not running: start() it before, or use it in a with statement"
        )


def _tracked(self: SharedMemoryManager, segment: shared_memory.SharedMemory) -> None:
    try:
        _command(self, "track_segment", segment.name)
    except BaseException:
        segment.unlink()
        raise
