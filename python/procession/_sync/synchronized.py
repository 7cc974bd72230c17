"""A ctypes object together with the lock that guards it."""

from __future__ import annotations

import ctypes

from .. import _core, context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ctypes import _CData
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, SupportsIndex, TypeVar, overload

    from .._core import Guarded
    from ..context import BaseContext

    C = TypeVar("C", bound=_CData)
    T = TypeVar("T")
    Simple = ctypes._SimpleCData
    Items = ctypes.Array
else:
    # type arguments are for type checkers alone: the bases are those without them
    C = T = None
    Simple = Items = {None: None}
    Guarded = {None: _core.Guarded}

__all__ = ["Synchronized", "SynchronizedArray", "SynchronizedBase", "SynchronizedString", "synchronized"]


if TYPE_CHECKING:

    @overload
    def synchronized(obj: Simple[T], lock: Any = None, ctx: BaseContext | None = None) -> Synchronized[T]: ...
    @overload
    def synchronized(
        obj: Items[ctypes.c_char], lock: Any = None, ctx: BaseContext | None = None
    ) -> SynchronizedString: ...
    @overload
    def synchronized(
        obj: Items[Simple[T]], lock: Any = None, ctx: BaseContext | None = None
    ) -> SynchronizedArray[T]: ...
    @overload
    def synchronized(obj: C, lock: Any = None, ctx: BaseContext | None = None) -> SynchronizedBase[C]: ...


def synchronized(obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> Any:
    """Wraps a ctypes object in one that holds a lock while it reads or writes it.

    The wrapper of one value has `value`, that of a structure or union has its fields, that of an array is indexed.

    Args:
        obj: the ctypes object.
        lock: None: a new `RLock`.
        ctx: the context that makes a new lock.

    Raises:
        TypeError: `obj` is not a ctypes object, or is wrapped already.
    """
    if isinstance(obj, SynchronizedBase):
        raise TypeError(f"{obj!r} has a lock already")
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        wrapper = SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
        return wrapper(obj, lock, ctx)
    if isinstance(obj, ctypes.Structure | ctypes.Union):
        return _class_for(type(obj))(obj, lock, ctx)
    raise TypeError(f"only a ctypes object can be given a lock, not {obj!r}")


class SynchronizedBase(Guarded[C]):
    """A ctypes object with the lock that guards it. `with` acquires the lock, for changes that take several steps:

        with counter:  # or counter.get_lock()
            counter.value += 1

    It can be sent to other processes at any time; there it is the same object with the same lock. If a process dies
    while it holds the lock, the next `acquire` raises `OwnerDiedError`, once: the object may be half changed.
    """

    __module__ = "procession.sharedctypes"  # the public name, which pickles use

    if TYPE_CHECKING:
        acquire: Callable[..., bool]
        release: Callable[[], None]

    def __init__(self, obj: Any, lock: Any = None, ctx: BaseContext | None = None) -> None:
        """obj: the ctypes object. lock: any with acquire and release; None: a new `RLock` of the context ctx."""
        if lock is None:
            lock = (ctx or context._default_context.get_context(None)).RLock()
        _core.Guarded._guard(self, obj, lock)
        self.acquire = lock.acquire
        self.release = lock.release

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *exception: Any) -> Any:
        return self._lock.__exit__(*exception)

    def __reduce__(self) -> tuple[Any, ...]:
        return synchronized, (self._obj, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj!r}>"


def _guarded(name: str) -> property:
    """Makes a property for an attribute of the ctypes object, which is read and written with the lock held."""

    def read(self: SynchronizedBase[Any]) -> Any:
        with self._lock:
            return getattr(self._obj, name)

    def write(self: SynchronizedBase[Any], value: Any) -> None:
        with self._lock:
            setattr(self._obj, name, value)

    return property(read, write)


if TYPE_CHECKING:
    Base = SynchronizedBase
else:
    Base = {None: SynchronizedBase}


class Synchronized(Base[Simple[T]]):
    """One value with a lock. Reading or writing `value` acquires it, but `value += 1` is two steps: use `with`."""

    __module__ = "procession.sharedctypes"  # the public name, which pickles use

    # like `_guarded`, but several times faster
    value: T = _core.guarded_value

    # Rust calls these by names that no derived class uses.

    def _procession_read(self, name: str) -> Any:
        with self._lock:
            return getattr(self._obj, name)

    def _procession_write(self, name: str, value: Any) -> None:
        with self._lock:
            setattr(self._obj, name, value)


class SynchronizedArray(Base[Items[Simple[T]]]):
    """An array with a lock. Reading or writing an item or slice acquires it."""

    __module__ = "procession.sharedctypes"  # the public name, which pickles use

    def __len__(self) -> int:
        return len(self._obj)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, i: SupportsIndex) -> T: ...
        @overload
        def __getitem__(self, i: slice) -> list[T]: ...
        def __getitem__(self, i: SupportsIndex | slice) -> Any: ...

        @overload
        def __setitem__(self, i: SupportsIndex, value: T) -> None: ...
        @overload
        def __setitem__(self, i: slice, value: Iterable[T]) -> None: ...
        def __setitem__(self, i: SupportsIndex | slice, value: Any) -> None: ...

    else:
        # each is a method that acquires the lock; for an item several times faster than one in Python
        __getitem__ = _core.guarded_get_item
        __setitem__ = _core.guarded_set_item

    # Rust calls these by names that no derived class uses.

    def _procession_get(self, i: SupportsIndex | slice) -> Any:
        with self._lock:
            return self._obj[i]

    def _procession_set(self, i: SupportsIndex | slice, value: Any) -> None:
        with self._lock:
            self._obj[i] = value

    def __getslice__(self, start: int, stop: int) -> list[T]:
        with self._lock:
            return self._obj[start:stop]  # type: ignore[no-any-return]

    def __setslice__(self, start: int, stop: int, values: Iterable[T]) -> None:
        with self._lock:
            self._obj[start:stop] = values

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[T]: ...


if TYPE_CHECKING:
    OfBytes = SynchronizedArray
else:
    OfBytes = {bytes: SynchronizedArray}


class SynchronizedString(OfBytes[bytes]):
    """An array of bytes with a lock. `value`: the bytes before the first zero. `raw`: all of them."""

    __module__ = "procession.sharedctypes"  # the public name, which pickles use

    if TYPE_CHECKING:
        value: bytes
        raw: bytes

        def __getitem__(self, i: SupportsIndex | slice) -> bytes: ...  # type: ignore[override]

    else:
        value = _guarded("value")
        raw = _guarded("raw")


_classes: dict[type[Any], type[SynchronizedBase[Any]]] = {}


def _class_for(type_: type[Any]) -> type[SynchronizedBase[Any]]:
    """Returns the class of wrappers for a structure or union, with the fields as attributes."""
    type_ = getattr(type_, "_plain", type_)
    found = _classes.get(type_)
    if found is None:
        names = [field[0] for base in type_.__mro__ for field in base.__dict__.get("_fields_", ())]
        found = type(f"Synchronized{type_.__name__}", (SynchronizedBase,), {name: _guarded(name) for name in names})
        found = _classes.setdefault(type_, found)  # another thread may have made one
    return found
