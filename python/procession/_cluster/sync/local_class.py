"""Makes `isinstance` tell programs that an object of a cluster is a lock, an event or a queue."""

from __future__ import annotations

import sys
from importlib import import_module

__all__ = ["local_class"]


def local_class(kind: type, home: str, with_theirs: bool) -> type:
    """Returns a class that derives from a class of this package, and from the one of one machine with that name.

    Programs check `isinstance(lock, multiprocessing.synchronize.Lock)`. The class is the attribute `__class__` of an
    object, which `isinstance` asks besides its type. So objects of one machine pay nothing. A class that is derived
    from ours is returned as it is.

    Args:
        kind: the class.
        home: the module of the class of one machine: "synchronize" or "queues".
        with_theirs: whether objects of one machine count as of the class of the standard library, too. It is then
            another base, if the program has imported it.
    """
    package = __name__.rpartition(".")[0]
    if kind.__module__.rpartition(".")[0] != package:
        return kind
    local = getattr(import_module(f"{package.partition('.')[0]}.{home}"), kind.__name__, None)
    if local is None:
        return kind
    theirs = getattr(sys.modules.get(f"multiprocessing.{home}"), kind.__name__, local) if with_theirs else local
    found = _made.get((kind, theirs))
    if found is None:
        bases = (kind, local) if theirs is local else (kind, local, theirs)
        found = _made[kind, theirs] = type(kind.__name__, bases, {"__module__": kind.__module__})
    return found


_made: dict[tuple[type, type], type] = {}
