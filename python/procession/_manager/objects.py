"""The objects of a manager's server: under which ident, and how long.

An object is *kept* by a `Kept`, which is held from two sides: by the server as long as a process refers to the object,
and by every proxy in the server that stands for it (in a list that is an object of the server itself, say). So proxies
in the server are ordinary references between Python objects, and what refers to itself in a circle is Python's to
collect.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Lock
from weakref import WeakValueDictionary

from .. import util
from .refcounts import References

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    _Parts = tuple[Any, frozenset[str], dict[str, str] | None]

__all__ = ["Kept", "Objects"]


class Kept:
    """An object of a server. parts: the object, the names of its methods, and those that have a type."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, parts: _Parts) -> None:
        self.parts = parts


class Objects:
    """See the module."""

    def __init__(self) -> None:
        self.references = References(self._dispose)
        self.in_reach: dict[str, _Parts] = {}  # those that processes refer to
        self.gone: deque[Kept] = deque()  # those that they do not any more; to be emptied without a lock
        self._mutex = Lock()
        self._kept: dict[str, Kept] = {}  # the same as in_reach
        self._all: WeakValueDictionary[str, Kept] = WeakValueDictionary()
        self._idents: dict[tuple[int, str], str] = {}
        # no two servers that a client meets give the same ident
        self._next = int.from_bytes(os.urandom(6), "little") << 16

    def add(self, holder: Hashable, typeid: str, parts: _Parts) -> str:
        """Takes an object in, if it is not here as that type; its ident, to which the holder has a reference."""
        with self._mutex:
            key = id(parts[0]), typeid
            ident = self._idents.get(key, "")
            kept = self._all.get(ident)
            if kept is None or kept.parts[0] is not parts[0]:  # it has died, and another one lies where it lay
                self._next += 1
                ident = self._idents[key] = f"{self._next:x}"
                kept = self._all[ident] = Kept(parts)
            else:
                kept.parts = parts
            self._hold(holder, ident, kept)
        self.references.finish()
        return ident

    def _hold(self, holder: Hashable, ident: str, kept: Kept) -> None:
        self.in_reach[ident] = kept.parts
        self._kept[ident] = kept
        self.references.add(holder, ident)

    def take(self, holder: Hashable, ident: str) -> None:
        """The holder refers to the object once more. KeyError: it is gone."""
        with self._mutex:
            self._hold(holder, ident, self.keep(ident))
        self.references.finish()

    def keep(self, ident: str) -> Kept:
        """What a proxy in the server holds on to. KeyError: the object is gone."""
        kept = self._all.get(ident)
        if kept is None:
            raise KeyError(f"there is no object {ident} here: nobody referred to it any more")
        return kept

    def __contains__(self, ident: str) -> bool:
        return ident in self._all

    def _dispose(self, idents: list[str]) -> None:
        with self._mutex:
            for ident in idents:
                if ident not in self.references:  # it may have been asked for again meanwhile
                    self.in_reach.pop(ident, None)
                    kept = self._kept.pop(ident, None)
                    if kept is not None:
                        self.gone.append(kept)
                        util.debug("no process refers to the object with id %r any more", ident)
            if len(self._idents) > 2 * len(self._all) + 100:
                self._idents = {key: ident for key, ident in self._idents.items() if ident in self._all}
