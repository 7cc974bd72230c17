"""The objects of a manager's server: their idents, and how long they live.

An `ObjectEntry` holds an object. Two sides hold the entry: the server as long as a process refers to the object, and
every proxy of it inside the server (for example in a list that is itself an object of the server). So proxies in the
server are ordinary references between Python objects, and Python collects cycles of them.
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

    Parts = tuple[Any, frozenset[str], dict[str, str] | None]

__all__ = ["ObjectEntry", "Objects"]


class ObjectEntry:
    """Holds an object of a server. parts: the object, the names of its methods, and those with a registered type."""

    __slots__ = ("__weakref__", "parts")

    def __init__(self, parts: Parts) -> None:
        self.parts: Parts = parts


class Objects:
    """The objects of a server; see the module."""

    def __init__(self) -> None:
        self.references: References = References(self._dispose)
        self.in_reach: dict[str, Parts] = {}  # objects to which processes refer
        self.gone: deque[ObjectEntry] = deque()  # objects without references; to be emptied without a lock
        self._mutex = Lock()
        self._kept: dict[str, ObjectEntry] = {}  # with the same keys as in_reach
        self._all: WeakValueDictionary[str, ObjectEntry] = WeakValueDictionary()
        self._idents: dict[tuple[int, str], str] = {}
        # random, so that two servers of a client do not give the same ident
        self._next = int.from_bytes(os.urandom(6), "little") << 16

    def add(self, holder: Hashable, typeid: str, parts: Parts) -> str:
        """Adds an object, unless it is here as that type. Returns its ident; the holder has a reference."""
        with self._mutex:
            key = id(parts[0]), typeid
            ident = self._idents.get(key, "")
            kept = self._all.get(ident)
            if kept is None or kept.parts[0] is not parts[0]:  # the old object was freed, and a new one has its address
                self._next += 1
                ident = self._idents[key] = f"{self._next:x}"
                kept = self._all[ident] = ObjectEntry(parts)
            else:
                kept.parts = parts
            self._hold(holder, ident, kept)
        self.references.finish()
        return ident

    def _hold(self, holder: Hashable, ident: str, kept: ObjectEntry) -> None:
        self.in_reach[ident] = kept.parts
        self._kept[ident] = kept
        self.references.add(holder, ident)

    def take(self, holder: Hashable, ident: str) -> None:
        """Adds a reference of the holder to the object. KeyError: the object is gone."""
        with self._mutex:
            self._hold(holder, ident, self.keep(ident))
        self.references.finish()

    def keep(self, ident: str) -> ObjectEntry:
        """Returns the `ObjectEntry` of an object, for a proxy in the server. KeyError: the object is gone."""
        kept = self._all.get(ident)
        if kept is None:
            raise KeyError(f"there is no object {ident} here: no reference to it is left")
        return kept

    def __contains__(self, ident: str) -> bool:
        return ident in self._all

    def _dispose(self, idents: list[str]) -> None:
        with self._mutex:
            for ident in idents:
                if ident not in self.references:  # a process may have taken a reference meanwhile
                    self.in_reach.pop(ident, None)
                    kept = self._kept.pop(ident, None)
                    if kept is not None:
                        self.gone.append(kept)
                        util.debug("no process refers to the object with id %r any more", ident)
            if len(self._idents) > 2 * len(self._all) + 100:
                self._idents = {key: ident for key, ident in self._idents.items() if ident in self._all}
