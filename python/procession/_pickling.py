"""The start message of a child that shares no memory of objects with its parent."""

from __future__ import annotations

import io

from . import context
from ._beside import standard_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .process import BaseProcess

__all__ = ["loads", "pickled", "split"]

try:
    # in C, and without the time that importing pickle takes in each child
    from _pickle import loads as loads
except ImportError:
    from pickle import loads as loads

LENGTH = 8  # bytes of the length that precedes the first pickle


def pickled(popen: Any, preparation: dict[str, Any], process_obj: BaseProcess) -> bytes:
    """Both as one message, for the child that popen is about to start.

    Pickled, unless they are plain enough to do without (`_plain`), and apart from each other: the second can be
    unpickled only after the first was acted upon. What of the
    second cannot go by name goes by value, unless the program has replaced the reducer.
    """
    from . import _by_value, _plain, reduction

    reducer = context._get_reducer()
    plainly = _plain.packed(preparation, process_obj) if reducer is reduction else None
    if plainly is not None:
        return plainly

    def plain(obj: object) -> bytes:
        file = io.BytesIO()
        reducer.dump(obj, file)
        return file.getvalue()

    # objects of the standard library's package ask that package whether they may be pickled now
    others = standard_library("context")
    context.set_spawning_popen(popen)
    if others is not None:
        others.set_spawning_popen(popen)
    try:
        second = _by_value.dumps(process_obj, plain, popen.mark()) if reducer is reduction else plain(process_obj)
        tracker = standard_library("resource_tracker") if b"multiprocessing" in second else None
        fd = None if tracker is None else getattr(tracker._resource_tracker, "_fd", None)
        if fd is not None:
            preparation["their_tracker"] = popen.DupFd(popen.duplicate_for_child(fd))
        first = plain(preparation)
    finally:
        context.set_spawning_popen(None)
        if others is not None:
            others.set_spawning_popen(None)
    return b"".join((len(first).to_bytes(LENGTH, "little"), first, second))


def split(message: bytes) -> tuple[memoryview, memoryview]:
    """The two pickles of a message."""
    whole = memoryview(message)
    end = LENGTH + int.from_bytes(whole[:LENGTH], "little")
    return whole[LENGTH:end], whole[end:]
