"""Makes a context with our pools of one of the standard library. It stands for `procession._process.stdlib_context`."""

from __future__ import annotations

import multiprocessing.context as _theirs
from typing import Any

from .contexts import BaseContext, _context_of

__all__ = ["own_context"]

_PLAIN = ("DefaultContext", "ForkContext", "SpawnContext", "ForkServerContext")


def own_context(given: Any) -> Any:
    """Returns the context with which workers start.

    One of this package is returned as it is, and one of `multiprocessing` is replaced by ours of the same start method.
    A context of a class that derives from those keeps what that class has changed.
    """
    import multiprocessing

    if isinstance(given, BaseContext):
        return given
    if given is multiprocessing or type(given) in [getattr(_theirs, name, None) for name in _PLAIN]:
        return _context_of(given.get_start_method())
    if not isinstance(given, _theirs.BaseContext):
        return given
    kind: Any = type(given)
    make: Any = type
    made: Any = object.__new__(make(kind.__name__, (kind, BaseContext), {"__module__": kind.__module__}))
    made.__dict__.update(given.__dict__)
    return made
