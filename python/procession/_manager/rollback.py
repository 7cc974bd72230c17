"""Takes back what a client of a manager got but was not there to receive.

If a client is killed while it waits for a lock or an item, others lose nothing: at some time the server's thread gets
the lock in its place, cannot deliver it, and releases it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["UNDO"]


def _release(obj: Any, value: Any) -> None:
    if value and hasattr(obj, "release"):
        obj.release()


def _put_back(obj: Any, value: Any) -> None:
    import queue

    if not isinstance(obj, queue.Queue):
        return
    with obj.mutex:
        if type(obj) is queue.Queue:
            obj.queue.appendleft(value)
        else:  # a priority queue or a stack, where `_put` decides the place
            obj._put(value)
        obj.not_empty.notify()


# By the name of the method: undoes a call of it. The function gets the object and what the method returned.
UNDO: dict[str, Callable[[Any, Any], None]] = {"acquire": _release, "get": _put_back, "get_nowait": _put_back}
