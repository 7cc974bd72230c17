"""The types that a manager offers: the classes of their proxies, and classes of objects that only managers have."""

from __future__ import annotations

import array
import collections.abc
import time
from types import GenericAlias

from .proxies import BaseProxy, MakeProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self

__all__ = [
    "AcquirerProxy",
    "Array",
    "ArrayProxy",
    "BarrierProxy",
    "BaseDictProxy",
    "BaseListProxy",
    "BasePoolProxy",
    "BaseSetProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "Namespace",
    "NamespaceProxy",
    "PoolProxy",
    "SetProxy",
    "Value",
    "ValueProxy",
    "make_pool",
]

# --- objects ---


class Namespace:
    """An object with any attributes."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in self.__dict__.items() if not name.startswith("_"))
        return f"{type(self).__name__}({', '.join(shown)})"


class Value:
    """A value that can be read and replaced. typecode, lock: ignored."""

    def __init__(self, typecode: str, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        """Returns the value."""
        return self._value

    def set(self, value: Any) -> None:
        """Replaces the value."""
        self._value = value

    value = property(get, set)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"


def Array(typecode: str, sequence: Iterable[Any], lock: bool = True) -> array.array[Any]:
    """Makes an `array.array`. lock: ignored."""
    return array.array(typecode, sequence)


def make_pool(*args: Any, **kwds: Any) -> Any:
    """Makes a pool of processes, which are children of the server."""
    from .. import context

    return context._default_context.get_context().Pool(*args, **kwds)


# --- proxies ---


class IteratorProxy(BaseProxy):
    """Stands for an iterator or generator."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> Self:
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """As the method of generators."""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """As the method of generators."""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """As the method of generators."""
        return self._callmethod("close", args)


class AcquirerProxy(BaseProxy):
    """Stands for a lock or semaphore of `threading`.

    If a client is killed while it waits for it, the lock goes to another client.
    """

    _exposed_ = ("acquire", "release", "locked")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """As the method of `threading.Lock`."""
        args = (blocking,) if timeout is None else (blocking, timeout)
        return bool(self._callmethod("acquire", args))

    def release(self) -> None:
        """As the method of `threading.Lock`."""
        return self._callmethod("release")  # type: ignore[no-any-return]

    def locked(self) -> bool:
        """Returns whether it is acquired."""
        return bool(self._callmethod("locked"))

    def __enter__(self) -> bool:
        return bool(self._callmethod("acquire"))

    def __exit__(self, *exception: object) -> None:
        self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """Stands for a `threading.Condition`."""

    _exposed_ = ("acquire", "release", "locked", "wait", "notify", "notify_all")  # type: ignore[assignment]

    def wait(self, timeout: float | None = None) -> bool:
        """As the method of `threading.Condition`."""
        return bool(self._callmethod("wait", (timeout,)))

    def notify(self, n: int = 1) -> None:
        """As the method of `threading.Condition`."""
        return self._callmethod("notify", (n,))  # type: ignore[no-any-return]

    def notify_all(self) -> None:
        """As the method of `threading.Condition`."""
        return self._callmethod("notify_all")  # type: ignore[no-any-return]

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """As the method of `threading.Condition`. It calls `predicate` here, in the process that waits."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            remaining = None if end is None else end - time.monotonic()
            if remaining is not None and remaining <= 0:
                break
            self.wait(remaining)
        return result


class EventProxy(BaseProxy):
    """Stands for a `threading.Event`."""

    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> bool:
        """As the method of `threading.Event`."""
        return bool(self._callmethod("is_set"))

    def set(self) -> None:
        """As the method of `threading.Event`."""
        return self._callmethod("set")  # type: ignore[no-any-return]

    def clear(self) -> None:
        """As the method of `threading.Event`."""
        return self._callmethod("clear")  # type: ignore[no-any-return]

    def wait(self, timeout: float | None = None) -> bool:
        """As the method of `threading.Event`."""
        return bool(self._callmethod("wait", (timeout,)))


class BarrierProxy(BaseProxy):
    """Stands for a `threading.Barrier`."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> int:
        """As the method of `threading.Barrier`."""
        return int(self._callmethod("wait", (timeout,)))

    def abort(self) -> None:
        """As the method of `threading.Barrier`."""
        return self._callmethod("abort")  # type: ignore[no-any-return]

    def reset(self) -> None:
        """As the method of `threading.Barrier`."""
        return self._callmethod("reset")  # type: ignore[no-any-return]

    @property
    def parties(self) -> int:
        """As the attribute of `threading.Barrier`."""
        return int(self._callmethod("__getattribute__", ("parties",)))

    @property
    def n_waiting(self) -> int:
        """As the attribute of `threading.Barrier`."""
        return int(self._callmethod("__getattribute__", ("n_waiting",)))

    @property
    def broken(self) -> bool:
        """As the attribute of `threading.Barrier`."""
        return bool(self._callmethod("__getattribute__", ("broken",)))


class NamespaceProxy(BaseProxy):
    """Stands for an object with any attributes. Attributes whose names begin with an underscore are the proxy's own."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__getattribute__(self, key)
        return object.__getattribute__(self, "_callmethod")("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            object.__getattribute__(self, "_callmethod")("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            object.__getattribute__(self, "_callmethod")("__delattr__", (key,))


class ValueProxy(BaseProxy):
    """Stands for an object with get and set."""

    _exposed_ = ("get", "set")

    def get(self) -> Any:
        """Returns the value."""
        return self._callmethod("get")

    def set(self, value: Any) -> None:
        """Replaces the value."""
        return self._callmethod("set", (value,))  # type: ignore[no-any-return]

    value = property(get, set)

    __class_getitem__: Any = classmethod(GenericAlias)


def _register(kind: type, abc: Any) -> None:
    abc.register(kind)  # so that isinstance works as for the object


def _augmented(name: str) -> Any:
    """Makes a method that changes the object and returns the proxy."""

    def method(self: BaseProxy, other: Any) -> Any:
        self._callmethod(name, (other,))
        return self

    method.__name__ = method.__qualname__ = name
    return method


BaseListProxy = MakeProxyType(
    "BaseListProxy",
    (
        "__add__",
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__imul__",
        "__len__",
        "__mul__",
        "__reversed__",
        "__rmul__",
        "__setitem__",
        "append",
        "clear",
        "copy",
        "count",
        "extend",
        "index",
        "insert",
        "pop",
        "remove",
        "reverse",
        "sort",
    ),
)


class ListProxy(BaseListProxy):  # type: ignore[misc, valid-type]
    """Stands for a list."""

    _exposed_ = (*BaseListProxy._exposed_, "__iadd__")

    def __iadd__(self, value: Any) -> Self:
        self._callmethod("extend", (value,))
        return self

    __imul__ = _augmented("__imul__")

    __class_getitem__: Any = classmethod(GenericAlias)


_register(BaseListProxy, collections.abc.MutableSequence)

BaseDictProxy = MakeProxyType(
    "BaseDictProxy",
    (
        "__contains__",
        "__delitem__",
        "__getitem__",
        "__ior__",
        "__iter__",
        "__len__",
        "__or__",
        "__reversed__",
        "__ror__",
        "__setitem__",
        "clear",
        "copy",
        "fromkeys",
        "get",
        "items",
        "keys",
        "pop",
        "popitem",
        "setdefault",
        "update",
        "values",
    ),
)
BaseDictProxy._method_to_typeid_ = {"__iter__": "Iterator"}


class DictProxy(BaseDictProxy):  # type: ignore[misc, valid-type]
    """Stands for a dictionary."""

    # The two most frequent methods, without collecting their arguments first.

    def __getitem__(self, key: Any) -> Any:
        return self._callmethod("__getitem__", (key,))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._callmethod("__setitem__", (key, value))

    __ior__ = _augmented("__ior__")

    __class_getitem__: Any = classmethod(GenericAlias)


_register(BaseDictProxy, collections.abc.MutableMapping)

_SET_OPERATORS = ("and", "or", "sub", "xor")

BaseSetProxy = MakeProxyType(
    "BaseSetProxy",
    (
        *(f"__{name}__" for name in _SET_OPERATORS),
        *(f"__r{name}__" for name in _SET_OPERATORS),
        *(f"__i{name}__" for name in _SET_OPERATORS),
        "__contains__",
        "__ge__",
        "__gt__",
        "__iter__",
        "__le__",
        "__len__",
        "__lt__",
        "add",
        "clear",
        "copy",
        "difference",
        "difference_update",
        "discard",
        "intersection",
        "intersection_update",
        "isdisjoint",
        "issubset",
        "issuperset",
        "pop",
        "remove",
        "symmetric_difference",
        "symmetric_difference_update",
        "union",
        "update",
    ),
)
BaseSetProxy._method_to_typeid_ = {"__iter__": "Iterator"}


class SetProxy(BaseSetProxy):  # type: ignore[misc, valid-type]
    """Stands for a set."""

    __iand__ = _augmented("__iand__")
    __ior__ = _augmented("__ior__")
    __isub__ = _augmented("__isub__")
    __ixor__ = _augmented("__ixor__")

    __class_getitem__: Any = classmethod(GenericAlias)


_register(BaseSetProxy, collections.abc.MutableSet)


class ArrayProxy(MakeProxyType("BaseArrayProxy", ("__len__", "__getitem__", "__setitem__"))):  # type: ignore[misc]
    """Stands for an `array.array`."""


BasePoolProxy = MakeProxyType(
    "BasePoolProxy",
    (
        "apply",
        "apply_async",
        "close",
        "imap",
        "imap_unordered",
        "join",
        "map",
        "map_async",
        "starmap",
        "starmap_async",
        "terminate",
    ),
)
BasePoolProxy._method_to_typeid_ = {
    "apply_async": "AsyncResult",
    "imap": "Iterator",
    "imap_unordered": "Iterator",
    "map_async": "AsyncResult",
    "starmap_async": "AsyncResult",
}


class PoolProxy(BasePoolProxy):  # type: ignore[misc, valid-type]
    """Stands for a pool of processes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.terminate()
