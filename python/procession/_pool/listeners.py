"""Functions that are called when a task is done or a group has news: the part that both kinds of supervisors share."""

from __future__ import annotations

import threading

from .backlog import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Listeners"]


class Listeners:
    """The functions, by key: (whether it is a group, its number). That of a group is called again and again."""

    def __init__(self) -> None:
        # reentrant: what is pickled for a submission may submit
        self.lock = threading.RLock()
        self.watched: dict[tuple[bool, int], Callable[[], object]] = {}

    def tell(self, key: tuple[bool, int]) -> None:
        """Calls the function of that key, if there is one. What a callback raises is shown, and not raised here."""
        with self.lock:
            tell = self.watched.get(key) if key[0] else self.watched.pop(key, None)
        if tell is not None:
            report(tell)

    def forget(self, key: tuple[bool, int]) -> None:
        """Takes the function of that key back."""
        with self.lock:
            self.watched.pop(key, None)
