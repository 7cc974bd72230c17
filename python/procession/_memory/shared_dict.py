"""A dictionary that processes share, in family memory and without a server."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from copyreg import __newobj__  # type: ignore[attr-defined]

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
    from typing import Any, Self

    from ..synchronize import RLock

__all__ = ["SharedDict"]

_MISSING: Any = object()


class SharedDict(_core.Dict):
    """A dictionary that processes share. It takes no server: every operation is a few steps in shared memory.

        cache = SharedDict()
        cache["answer"] = 42  # whoever it was handed to has it now

    Each operation on a key is atomic: it has happened or it has not, whoever else is at work and whoever is killed at
    any moment. A value is pickled when it is put and unpickled when it is got, so what one gets is a copy: to change
    a value in place, put it again (`change` does that without losing what others do meanwhile). Values are any that
    can be sent through a queue, locks, queues and arrays included. (A dictionary that contains itself is never
    freed.)

    **Keys** are found by what they are, since Python's hashes differ between processes. `1`, `1.0` and `True` are one
    key, as in `dict`. So are two equal keys that are made of str, bytes, int, float, bool, None, tuples and
    frozensets, and of classes that derive from these and do not redefine equality. Other hashable objects are found
    by type and pickled state: two of them are one key if they pickle alike, and `Decimal(1)` is not the key `1`.
    TypeError: not hashable.

    **Iterating**, `keys`, `values`, `items`, `copy` and `==` see what it held at one moment, in the order in which
    the keys came; what others do meanwhile is not seen. They copy everything, as `popitem` copies all keys.

    It can be sent to other processes at any time and in any way, and is the same there. MemoryError: the machine has
    no memory left; the dictionary is as it was. What is removed makes room for other things; a value of more than 4
    KiB has memory of its own, which goes back to the machine.

    References: linear probing, Knuth, The Art of Computer Programming, volume 3, section 6.4.
    """

    __module__ = "procession"  # where it is found, and what pickles call it

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, initial: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """initial, more: what it holds at first, as with `dict`."""
        self._create()
        self.update(initial, **more)

    def __reduce__(self) -> tuple[Any, ...]:
        return __newobj__, (type(self),), self.handle

    def __setstate__(self, handle: bytes) -> None:
        self._attach(handle)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.copy()!r})"

    # --- one key ---

    def setdefault(self, key: Any, default: Any = None, /) -> Any:
        """The value of a key, which is default from now on if it had none. Of those who try, one succeeds."""
        while True:
            found = self._find(key)
            if found is not None:
                return found[0]
            if self._replace(key, default, None):
                return default

    def pop(self, key: Any, default: Any = _MISSING, /) -> Any:
        """Removes a key and returns its value, which nobody else gets. Without one: default, or KeyError."""
        while True:
            found = self._find(key)
            if found is None:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            value, stamp = found
            if self._remove(key, stamp):
                return value

    def popitem(self) -> tuple[Any, Any]:
        """Removes the key that came last, and returns it and its value. KeyError: there is none."""
        while True:
            keys = self._snapshot(False)
            if not keys:
                raise KeyError("popitem(): dictionary is empty")
            value = self.pop(keys[-1], _MISSING)
            if value is not _MISSING:
                return keys[-1], value

    def change(self, key: Any, function: Callable[[Any], Any], default: Any = _MISSING, /) -> Any:
        """Replaces the value of a key by function(value), and returns that.

        The function is called again if somebody else has changed the value meanwhile: so it must have no other
        effects, and no change is lost. It is called without any lock. default: for a key without a value; else that
        is a KeyError.
        """
        while True:
            found = self._find(key)
            if found is None and default is _MISSING:
                raise KeyError(key)
            value, stamp = (default, None) if found is None else found
            new = function(value)
            if self._replace(key, new, stamp):
                return new

    def compare_and_set(self, key: Any, expected: Any, new: Any, /) -> bool:
        """Sets the value of a key to new if it equals expected; whether it did. A key without a value equals
        nothing.
        """
        while True:
            found = self._find(key)
            if found is None or found[0] != expected:
                return False
            if self._replace(key, new, found[1]):
                return True

    def lock(self, key: Any, /) -> RLock:
        """The lock of this key: the same in all processes, and that of no other key. The key need not have a value.

        It is for programs that agree to use it, and holds up no operation of the dictionary. It is an `RLock`: if the
        process that has it dies, the next to acquire it gets `OwnerDiedError`, once.

            with accounts.lock(name):
                accounts[name] += 1
        """
        from ..synchronize import RLock

        lock = RLock.__new__(RLock)
        self._lock_into(key, lock)
        lock.name = None
        return lock

    # --- all of it ---

    def copy(self) -> dict[Any, Any]:
        """What it holds at this moment, as a `dict`."""
        both = iter(self._snapshot(True))
        return dict(zip(both, both, strict=True))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._snapshot(False))

    def __reversed__(self) -> Iterator[Any]:
        return iter(self._snapshot(False)[::-1])

    def keys(self) -> KeysView[Any]:
        """The keys at this moment."""
        return dict.fromkeys(self._snapshot(False)).keys()

    def values(self) -> ValuesView[Any]:
        """The values at this moment."""
        return self.copy().values()

    def items(self) -> ItemsView[Any, Any]:
        """Keys and values at this moment."""
        return self.copy().items()

    def update(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = (), /, **more: Any) -> None:
        """Puts what other and more hold, one key after the other: each is atomic, the whole is not."""
        for key, value in dict(other, **more).items() if more or not isinstance(other, dict) else other.items():
            self[key] = value

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SharedDict):
            return self._key == other._key or self.copy() == other.copy()
        return self.copy() == other if isinstance(other, Mapping) else NotImplemented

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> Self:
        self.update(other)
        return self


MutableMapping.register(SharedDict)  # pyright: ignore[reportAttributeAccessIssue]  (an ABC, which its stub is not)


def _canonical(key: object) -> bytes:
    """A key's pickle, the same for all that pickle alike: it does not say which parts of it are the same object."""
    from io import BytesIO
    from pickle import Pickler

    file = BytesIO()
    pickler = Pickler(file, 4)
    pickler.fast = True
    pickler.dump(key)
    return file.getvalue()
