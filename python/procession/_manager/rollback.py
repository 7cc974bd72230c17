"""Taking back what a client of a manager got and was not there to receive.

A client that was killed while it waited for a lock or an item costs the others nothing: the server's thread gets the
lock in its place some day, finds nobody to give it to, and releases it.
"""

from __future__ import annotations

import queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["undo"]


def undo(obj: Any, name: str, value: Any) -> None:
    """Undoes `obj.name()`, which returned that value, if it took something from the others and that can be undone."""
    if name == "acquire":
        if value and hasattr(obj, "release"):
            obj.release()
    elif name in ("get", "get_nowait") and isinstance(obj, queue.Queue):
        with obj.mutex:
            if type(obj) is queue.Queue:
                obj.queue.appendleft(value)
            else:  # a heap or a stack, which has its order from how things are put
                obj._put(value)
            obj.not_empty.notify()
