"""A dictionary that processes share. It lies in family memory and needs no server."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from copyreg import __newobj__  # type: ignore[attr-defined]

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
    from typing import Any, ClassVar, Self, TypeVar, overload

    from .._core import Dict
    from ..synchronize import RLock

    D = TypeVar("D")
    K = TypeVar("K")
    V = TypeVar("V")
    K2 = TypeVar("K2")
    V2 = TypeVar("V2")
else:
    # type arguments are for type checkers alone: the base is that without them
    K = V = None
    Dict = {(None, None): _core.Dict}

__all__ = ["SharedDict"]

_MISSING: Any = object()


class SharedDict(Dict[K, V]):
    """A dictionary that processes share. It needs no server: every operation is a few steps in shared memory.

    Each operation on a key is atomic, also if other processes use the key or a process is killed at any moment. A value
    is pickled when it is put and unpickled when it is read. So a reader gets a copy: to change a value in place, put it
    again (`change` does that without losing changes of others). A value can be any object that can be sent through a
    queue, also a lock, a queue or an array. (A dictionary that contains itself is never freed.)

    **Keys** are compared by value, since Python's hashes differ between processes. `1`, `1.0` and `True` are one key,
    as in `dict`. So are two equal keys that consist of str, bytes, int, float, bool, None, tuples and frozensets, and
    of classes that derive from these and do not redefine equality. Other hashable objects are compared by type and
    pickled state: two of them are one key if their pickles are equal, and `Decimal(1)` is not the key `1`. An object
    that is not hashable raises TypeError.

    **Iterating**, `keys`, `values`, `items`, `copy` and `==` use the content at one moment, in the order in which the
    keys were added; later changes are not seen. They copy everything; `popitem` copies all keys.

    It can be sent to other processes at any time and in any way. MemoryError: the machine has no memory left; the
    dictionary is unchanged. Memory of removed items is used for other objects; that of a value of more than 4 KiB is
    given back to the machine.

    Example:
        ```python
        import procession as mp

        def count(counts, word):
            counts.change(word, lambda n: n + 1, 0)

        if __name__ == "__main__":
            counts = mp.SharedDict()
            children = [mp.Process(target=count, args=(counts, word)) for word in ("a", "b", "a")]
            for child in children:
                child.start()
            for child in children:
                child.join()
            print(counts["a"], counts["b"])  # 2 1
        ```

    References: linear probing, Knuth, The Art of Computer Programming, volume 3, section 6.4.
    """

    __module__ = "procession"  # the public name, which pickles use

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(type(list[int]))  # types.GenericAlias, without the import

    if TYPE_CHECKING:

        @overload
        def __init__(self, /) -> None: ...
        @overload
        def __init__(self: SharedDict[str, V2], /, **more: V2) -> None: ...
        @overload
        def __init__(self, initial: Mapping[K, V], /) -> None: ...
        @overload
        def __init__(self: SharedDict[str, V2], initial: Mapping[str, V2], /, **more: V2) -> None: ...
        @overload
        def __init__(self, initial: Iterable[tuple[K, V]], /) -> None: ...
        @overload
        def __init__(self: SharedDict[str, V2], initial: Iterable[tuple[str, V2]], /, **more: V2) -> None: ...

    def __init__(self, initial: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """Makes a dictionary. initial, more: the first content, as with `dict`."""
        self._create()
        if more or initial or type(initial) is not tuple:
            self.update(initial, **more)

    @classmethod
    def named(cls, name: str, initial: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> Self:
        """Makes a dictionary with a name, which observers of the running program show.

        The attribute `name` is this name in all processes; None in a dictionary that was made without one. (`name=`, as
        other objects take it, would be an item of the first content.)

        Args:
            name: the name.
            initial, more: the first content, as with `dict`.
        """
        made = cls.__new__(cls)
        made._create()
        made._label(str(name))
        made.update(initial, **more)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.handle

    def __setstate__(self, handle: bytes) -> None:
        self._attach(handle)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.copy()!r})"

    # --- one key ---

    if TYPE_CHECKING:

        @overload
        def setdefault(self: SharedDict[K, D | None], key: K, default: None = None, /) -> D | None: ...
        @overload
        def setdefault(self, key: K, default: V, /) -> V: ...

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """Returns the value of a key. If the key has none, sets it to `default`; of several processes one succeeds."""
        while True:
            found = self._find(key)
            if found is not None:
                return found[0]
            if self._replace(key, default, None):
                return default

    if TYPE_CHECKING:

        @overload
        def pop(self, key: K, /) -> V: ...
        @overload
        def pop(self, key: K, default: V, /) -> V: ...
        @overload
        def pop(self, key: K, default: D, /) -> V | D: ...

    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Removes a key and returns its value, which no other process gets. If there is none: default, or KeyError."""
        while True:
            found = self._find(key)
            if found is None:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            value, stamp = found
            if self._remove(key, stamp):
                return value

    def popitem(self) -> tuple[K, V]:
        """Removes the key that was added last. Returns it and its value. KeyError: the dictionary is empty."""
        while True:
            keys = self._snapshot(False)
            if not keys:
                raise KeyError("popitem(): dictionary is empty")
            value = self.pop(keys[-1], _MISSING)
            if value is not _MISSING:
                return keys[-1], value

    def change(self, key: K, function: Callable[[V], V], default: V = _MISSING, /) -> V:
        """Replaces the value of a key by function(value), and returns that. No change of another process is lost.

        If another process has changed the value meanwhile, the function is called again: so it must have no side
        effects. It is called without any lock.

        Args:
            key: the key.
            function: computes the new value from the old one.
            default: the old value of a key that has none; without it such a key raises KeyError.
        """
        while True:
            found = self._find(key)
            if found is None and default is _MISSING:
                raise KeyError(key)
            value, stamp = (default, None) if found is None else found
            new = function(value)
            if self._replace(key, new, stamp):
                return new

    def compare_and_set(self, key: K, expected: object, new: V, /) -> bool:
        """Sets the value of a key to `new` if it equals `expected`. Returns whether it did; False for a key without a
        value.
        """
        while True:
            found = self._find(key)
            if found is None or found[0] != expected:
                return False
            if self._replace(key, new, found[1]):
                return True

    def lock(self, key: K, /) -> RLock:
        """Returns the lock of this key: the same in all processes, and a different one for each key. The key need not
        have a value.

        It is for programs that agree to use it; the operations of the dictionary do not wait for it. It is an `RLock`:
        if the process that holds it dies, the next `acquire` raises `OwnerDiedError`, once.

            with accounts.lock(name):
                accounts[name] += 1
        """
        from ..synchronize import RLock

        lock = RLock.__new__(RLock)
        self._lock_into(key, lock)
        lock.name = None
        return lock

    # --- the whole dictionary ---

    def copy(self) -> dict[K, V]:
        """Returns the content at this moment, as a `dict`."""
        both = iter(self._snapshot(True))
        return dict(zip(both, both, strict=True))

    def __iter__(self) -> Iterator[K]:
        return iter(self._snapshot(False))

    def __reversed__(self) -> Iterator[K]:
        return iter(self._snapshot(False)[::-1])

    def keys(self) -> KeysView[K]:
        """Returns the keys at this moment."""
        return dict.fromkeys(self._snapshot(False)).keys()

    def values(self) -> ValuesView[V]:
        """Returns the values at this moment."""
        return self.copy().values()

    def items(self) -> ItemsView[K, V]:
        """Returns keys and values at this moment."""
        return self.copy().items()

    def update(self, other: Mapping[K, V] | Iterable[tuple[K, V]] = (), /, **more: V) -> None:
        """Puts the items of `other` and `more`, one after the other: each is atomic, the whole is not."""
        items: Any = other
        given: Any = dict(items, **more) if more or not isinstance(items, dict) else items
        for key, value in given.items():
            self[key] = value

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SharedDict):
            return self._key == other._key or self.copy() == other.copy()
        return self.copy() == other if isinstance(other, Mapping) else NotImplemented

    def __or__(self, other: Mapping[K2, V2]) -> dict[K | K2, V | V2]:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[K2, V2]) -> dict[K | K2, V | V2]:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Mapping[K, V] | Iterable[tuple[K, V]]) -> Self:  # type: ignore[misc]  # as in typeshed
        self.update(other)
        return self


MutableMapping.register(SharedDict)  # pyright: ignore[reportAttributeAccessIssue]  (an ABC, which its stub is not)


def _canonical(key: object) -> bytes:
    """Returns the pickle of a key. Equal parts give equal bytes, also if they are the same object in one key only."""
    from io import BytesIO
    from pickle import Pickler

    file = BytesIO()
    pickler = Pickler(file, 4)
    pickler.fast = True
    pickler.dump(key)
    return file.getvalue()
