"""The start message of a child that is not forked, and so does not have its parent's objects."""

from __future__ import annotations

import io

from .. import context
from .._process.stdlib_compat import standard_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..process import BaseProcess

__all__ = ["loads", "pickled", "split"]

LENGTH = 8  # number of bytes of the length of each pickle


def pickled(popen: Any, preparation: dict[str, Any], process_obj: BaseProcess) -> bytes:
    """Packs preparation and Process object into one message, for the child that popen is about to start.

    If they are plain enough, without pickle (`plain_message`). Else as two pickles, since the second can be unpickled
    only after the first was applied. In the second, functions and classes without an importable name go by value, and
    big data goes through buffers (`big_arguments`), unless the program has replaced the reducer.
    """
    from . import plain_message

    # Importing `reduction` takes as long as half the start of an interpreter, and a plain message does not need it.
    plainly = plain_message.packed(preparation, process_obj) if context._has_own_reducer() else None
    if plainly is not None:
        return plainly

    from .. import reduction
    from .._serialize import by_value
    from .big_arguments import Baggage, big_ones, dump

    reducer = context._get_reducer()
    baggage = Baggage()
    big = big_ones(process_obj) if reducer is reduction else []
    forget_descriptors = popen.mark()

    def plain(obj: object) -> bytes:
        file = io.BytesIO()
        if reducer is reduction:
            pickler = reduction.ForkingPickler(file, 5, buffer_callback=baggage.take)
            dump(pickler, obj, big if obj is process_obj else [])
        else:
            reducer.dump(obj, file)
        return file.getvalue()

    def again() -> None:
        forget_descriptors()
        baggage.put_down()

    # objects of the standard library's package ask that package whether they may be pickled now
    others = standard_library("context")
    context.set_spawning_popen(popen)
    if others is not None:
        others.set_spawning_popen(popen)
    try:
        if reducer is reduction:
            second = by_value.dumps(
                process_obj, plain, again, baggage.take, lambda pickler, obj: dump(pickler, obj, big)
            )
        else:
            second = plain(process_obj)
        tracker = standard_library("resource_tracker") if b"multiprocessing" in second else None
        fd = None if tracker is None else getattr(tracker._resource_tracker, "_fd", None)
        if fd is not None:
            preparation["their_tracker"] = popen.DupFd(popen.duplicate_for_child(fd))
        first = plain(preparation)
    except BaseException as error:
        if reducer is reduction:
            from .._serialize.explain import explain_pickling

            explain_pickling(error, process_obj)
            forget_descriptors()
        baggage.put_down()  # now, since the traceback keeps it alive
        raise
    finally:
        context.set_spawning_popen(None)
        if others is not None:
            others.set_spawning_popen(None)
    parts = (first, second, baggage.pickled())
    return b"".join((*(len(part).to_bytes(LENGTH, "little") for part in parts), *parts))


def loads(pickled: bytes | memoryview, **options: Any) -> Any:
    """Unpickles a part of a start message. Takes the options of `pickle.loads`."""
    try:
        # in C, and importing it takes less time in each child than importing pickle
        from _pickle import loads
    except ImportError:
        from pickle import loads
    return loads(pickled, **options)


def split(message: bytes) -> tuple[memoryview, memoryview, memoryview]:
    """Returns the pickles of a message: the preparation, the Process object, its buffers (may be empty)."""
    whole = memoryview(message)
    parts, at = [], 3 * LENGTH
    for n in range(3):
        end = at + int.from_bytes(whole[n * LENGTH : (n + 1) * LENGTH], "little")
        parts.append(whole[at:end])
        at = end
    return parts[0], parts[1], parts[2]
