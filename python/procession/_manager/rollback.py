"""Takes back what a client of a manager got but was not there to receive.

If a client is killed while it waits for a lock or an item, others lose nothing: at some time the server's thread gets
the lock in its place, cannot deliver it, and releases it.
"""

from __future__ import annotations

import queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["undo"]


def undo(obj: Any, name: str, value: Any) -> None:
    """Undoes `obj.name()`, which returned that value, if it took something from other clients and can be undone."""
    if name == "acquire":
        if value and hasattr(obj, "release"):
            obj.release()
    elif name in ("get", "get_nowait") and isinstance(obj, queue.Queue):
        with obj.mutex:
            if type(obj) is queue.Queue:
                obj.queue.appendleft(value)
            else:  # a priority queue or a stack, where `_put` decides the place
                obj._put(value)
            obj.not_empty.notify()
