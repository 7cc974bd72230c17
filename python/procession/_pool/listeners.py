"""Functions that are called when a task is done or a group has news: the common part of both kinds of supervisors."""

from __future__ import annotations

import threading

from .backlog import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Listeners"]


class Listeners:
    """The functions, by key: (whether it is a group, its number). Those of groups are called repeatedly."""

    def __init__(self) -> None:
        # re-entrant: pickling a call for submission may submit another one
        self.lock = threading.RLock()
        self.watched: dict[tuple[bool, int], Callable[[], object]] = {}

    def tell(self, key: tuple[bool, int]) -> None:
        """Calls the function of that key, if there is one. An exception of a callback is printed."""
        with self.lock:
            tell = self.watched.get(key) if key[0] else self.watched.pop(key, None)
        if tell is not None:
            report(tell)

    def forget(self, key: tuple[bool, int]) -> None:
        """Removes the function of that key."""
        with self.lock:
            self.watched.pop(key, None)

    def trim(self) -> None:
        """Called when the pool has become smaller."""
