"""Waits for several objects of which some have more than a descriptor.

Some have to be asked whether they are ready (`_ready()`), since their descriptor does not always tell. Others have no
descriptor, but call a mailbox when they may have become ready: see `_sync.asyncio_wait`.
"""

from __future__ import annotations

import time

from .. import _core
from .._sync.base import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["wait_mixed"]

# Seconds after which objects are asked again without a call: if the mailbox is registered with all of them, and if not.
CALLED = 0.5
UNCALLED = 0.02


def wait_mixed(objects: list[Any], timeout: float | None) -> list[Any]:
    """Waits until some objects are ready. Returns these, in their order; none if `timeout` seconds have passed."""
    end = None if timeout is None else time.monotonic() + timeout
    asked = {place: question for place, obj in enumerate(objects) if (question := _question(obj)) is not None}
    callers = [objects[place] for place in asked if issubclass(type(objects[place]), _core.Event)]
    plain = [place for place in range(len(objects)) if place not in asked]
    # the objects to wait for by descriptor, as indexes into `objects`
    listed = plain + [place for place in asked if not issubclass(type(objects[place]), _core.Event)]
    waitable: list[Any] = [_descriptor(objects[place]) for place in listed]
    mailbox = _core.Mailbox() if callers else None
    patience = None
    try:
        if mailbox is not None:
            waitable.append(mailbox.fileno())
            patience = CALLED if all([ours(obj)._register_waker(obj, mailbox.address) for obj in callers]) else UNCALLED
        while True:
            # ask objects that call only after the mailbox is registered, or a call could be missed
            ready = {place for place, question in asked.items() if question()}
            left = None if end is None else max(0.0, end - time.monotonic())
            if ready:
                left = 0.0
            found = _core._poll([(fd, 1) for fd in waitable], _sooner(left, patience))
            if mailbox is not None and len(waitable) - 1 in found:
                mailbox.empty()
            ready |= {listed[number] for number in found if number < len(plain)}
            ready |= {place for place in asked if place not in ready and asked[place]()}
            if ready or left == 0.0:
                return [objects[place] for place in sorted(ready)]
    finally:
        if mailbox is not None:
            for obj in callers:
                ours(obj)._unregister_waker(obj, mailbox.address)


def _sooner(a: float | None, b: float | None) -> float | None:
    return min(a, b) if a is not None and b is not None else a if b is None else b


def _descriptor(obj: Any) -> int:
    if isinstance(obj, _core.Queue):
        return _core.Queue._watch(obj)
    fd = obj if isinstance(obj, int) else obj.fileno()
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return int(fd)


def _question(obj: Any) -> Callable[[], bool] | None:
    """Returns a function that asks an object whether it is ready; None if its descriptor tells."""
    if isinstance(obj, int):
        return None
    # only of our classes: others may use these names for something else
    if issubclass(type(obj), _core.Queue):  # not those of a cluster, which `isinstance` counts in
        return lambda: _core.Queue._ready(obj)
    if issubclass(type(obj), _core.Event):
        is_set: Callable[[], bool] = obj.is_set
        return is_set
    ready = getattr(type(obj), "_ready", None)
    if (getattr(ready, "__module__", None) or "").partition(".")[0] == "procession":
        return lambda: bool(ready(obj))  # type: ignore[misc]
    if hasattr(obj, "fileno"):
        return None
    raise TypeError(f"wait() takes descriptors, and objects with a fileno() method: {obj!r} has none")
