"""Proxies: objects that stand for others, which live in the server of a manager."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from .. import process, util
from ..context import get_spawning_popen
from .client import as_reached, listener_client, remote_of
from .protocol import PROXY, convert_to_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .client import Remote
    from .objects import ObjectEntry
    from .protocol import Token

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "RebuildProxy", "unpacked"]


class BaseProxy:
    """Stands for an object in a manager's server. Methods of derived classes call `_callmethod`.

    It can be sent to any process that can reach the server. The object lives as long as a process has a proxy of it, or
    another object of the server contains a proxy of it. A process that was killed has no proxies any more.

    Difference from multiprocessing: the `__cause__` of a method's exception is the traceback in the server; a process
    has one reference to an object, for all its proxies of it.
    """

    _exposed_: ClassVar[Any] = None
    _method_to_typeid_: ClassVar[Any] = None
    _isauto = False

    def __init__(
        self,
        token: Token,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Any = None,
        incref: bool = True,
        manager_owned: bool = False,
        *,
        tls: Any = None,
    ) -> None:
        """Makes a proxy.

        Args:
            token: names the object.
            serializer: "pickle" or "xmlrpclib".
            manager: the manager of the object, if it is in this process.
            authkey: the key of the server, if this process does not know it yet.
            exposed: ignored; `AutoProxy` uses it.
            incref: whether the proxy holds a reference to the object.
            manager_owned: whether the proxy lives in the server itself.
            tls: the TLS context for the server, if this process does not know it yet.
        """
        if manager is not None:
            authkey = manager._authkey if authkey is None else authkey
            tls = manager._procession_tls if tls is None else tls
        self._token = token
        self._id = token.id
        self._manager = manager
        self._serializer = serializer
        self._Client = listener_client[serializer][1]
        self._owned_by_manager = manager_owned
        self._procession_remote: Remote = remote_of(token, serializer, authkey, tls)
        self._authkey = self._procession_remote.authkey
        self._close: util.Finalize | None = None
        self._procession_taken_in: int | None = None  # the pid of the process that has the reference
        self._procession_entry: ObjectEntry | None = None  # in the server: the object
        if incref:
            self._incref()
        util.register_after_fork(self, BaseProxy._after_fork)

    # --- calls ---

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 (never changed)
        """Calls a method of the object. Returns its result or raises its exception.

        If a type was registered for the method, returns a proxy of the result.

        Raises:
            RemoteError: there is no such method, or its result cannot be pickled.
            EOFError, ConnectionError: the server has ended.
        """
        remote = self._procession_remote
        channel = remote.local.channel or remote.open_channel()
        try:
            return channel.ask(self, methodname, args, kwds)
        except BaseException as error:
            failure = remote.failed(error)
            try:
                if failure is error:
                    raise
                raise failure from None
            finally:
                del failure  # the exception must not be part of a cycle

    def _getvalue(self) -> Any:
        """Returns a copy of the object."""
        return self._callmethod("#GETVALUE")

    # --- references ---

    def _incref(self) -> None:
        self._procession_taken_in = os.getpid()
        server = getattr(process.current_process(), "_manager_server", None) if self._owned_by_manager else None
        if server is not None:
            self._procession_entry = server.objects.keep(self._id)
            return
        self._procession_remote.references.take(self._id)
        _close_at_exit(self)

    def _after_fork(self) -> None:
        # In a forked child: finalizers were dropped, and the references belong to the parent.
        self._manager = None
        if self._procession_taken_in is None:
            return
        try:
            if self._procession_taken_in != os.getpid():
                self._owned_by_manager = False
                self._procession_entry = None
                self._incref()
            elif self._procession_entry is None:  # it was unpickled for this child, before the fork
                _close_at_exit(self)
        except Exception as error:  # the server has ended: the first call raises it
            util.info("a forked child has no reference to %r: %s", self._token, error)

    # --- methods of all proxies ---

    def __reduce__(self) -> tuple[Any, ...]:
        if self._procession_entry is not None:
            process.current_process()._manager_server.pin_until_ack(self._procession_entry)  # type: ignore[attr-defined]
        kwds: dict[str, Any] = {}
        if get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        if self._procession_remote.tls is not None:
            kwds["tls"] = self._procession_remote.tls if callable(self._procession_remote.tls) else _missing_context
        if self._isauto:
            kwds["exposed"] = self._exposed_
            return RebuildProxy, (AutoProxy, self._token, self._serializer, kwds)
        return RebuildProxy, (type(self), self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """Returns `repr` of the object."""
        try:
            return str(self._callmethod("__repr__"))
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


def _close_at_exit(self: BaseProxy) -> None:
    later = self._procession_remote.references.later
    self._close = util.Finalize(self, later, args=(self._id,), exitpriority=10)


def unpacked(self: BaseProxy, kind: str, result: Any) -> Any:
    """Evaluates an answer that is not just the result of a method: makes a proxy, or raises. Channels call this."""
    if kind != PROXY:
        try:
            raise convert_to_error(kind, result)
        finally:
            del result
    exposed, token = result
    token.address = self._token.address
    token.control_queue = self._token.control_queue
    references = self._procession_remote.references
    references.grant(token.id)
    try:
        return _proxytype(self, token.typeid)(
            token, self._serializer, manager=self._manager, authkey=self._authkey, exposed=exposed
        )
    finally:
        references.settle(token.id)


def _proxytype(self: BaseProxy, typeid: str) -> Any:
    registry = getattr(self._manager, "_registry", None)
    if registry is None or typeid not in registry:
        # this proxy has come from another process, which has its manager
        from ..managers import SyncManager

        registry = SyncManager._registry
    return registry[typeid][-1] if typeid in registry else AutoProxy


def _missing_context() -> Any:
    raise TypeError(
        "this proxy's server wants TLS, and an ssl.SSLContext cannot be sent to another process: "
        "give the manager a function (tls=...) that makes one, which can"
    )


def RebuildProxy(func: Any, token: Token, serializer: str, kwds: dict[str, Any]) -> Any:
    """Unpickles a proxy. In the server of its object, the proxy refers to the object directly."""
    kwds = dict(kwds)
    token = as_reached(token)
    server = getattr(process.current_process(), "_manager_server", None)
    # The address does not matter, since no other server has an object of that ident.
    if server is not None and token.id in server.objects:
        kwds["manager_owned"] = True
    return func(token, serializer, **kwds)


def MakeProxyType(name: str, exposed: Iterable[str], _cache: dict[Any, type] = {}) -> Any:  # noqa: B006 (a cache)
    """Makes a class of proxies with these methods.

    It can be pickled if it is a global of the calling module under that name.
    """
    exposed = tuple(exposed)
    found = _cache.get((name, exposed))
    if found is None:
        methods: dict[str, Any] = {method: _calling(method) for method in exposed}
        module = sys._getframe(1).f_globals.get("__name__", __name__)
        found = type(name, (BaseProxy,), {**methods, "_exposed_": exposed, "__module__": module})
        found = _cache.setdefault((name, exposed), found)  # another thread may have made one
    return found


def _calling(name: str) -> Any:
    def method(self: Any, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = method.__qualname__ = name
    return method


def AutoProxy(
    token: Token,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Any = None,
    incref: bool = True,
    manager_owned: bool = False,
    *,
    tls: Any = None,
) -> Any:
    """Makes a proxy with the methods in `exposed`; None: with those that the server gives for the object."""
    if exposed is None:
        if manager is not None:
            authkey = manager._authkey if authkey is None else authkey
            tls = manager._procession_tls if tls is None else tls
        exposed = remote_of(token, serializer, authkey, tls).command("get_methods", (token,))
    kind = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = kind(
        token,
        serializer,
        manager=manager,
        authkey=authkey,
        incref=incref,
        manager_owned=manager_owned,
        **({} if tls is None else {"tls": tls}),
    )
    proxy._isauto = True
    return proxy
