"""Replaces a context of the standard library by one of this package.

Children of the former do not inherit family memory, so they could not find shared objects.
"""

from __future__ import annotations

import sys

from ..context import BaseContext, _context_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["own_context"]

_PLAIN = ("DefaultContext", "ForkContext", "SpawnContext", "ForkServerContext")


def own_context(given: Any) -> BaseContext:
    """Returns the context with which workers start: the given one; for one of `multiprocessing` ours of that method.

    TypeError: it is of a class that derives from those of `multiprocessing`, and its children do not inherit the memory
    of this process.
    """
    theirs = sys.modules.get("multiprocessing.context")
    if isinstance(given, BaseContext) or theirs is None:
        return given  # type: ignore[no-any-return]
    plain = given is sys.modules.get("multiprocessing")
    if not plain and not isinstance(given, theirs.BaseContext):
        return given  # type: ignore[no-any-return]
    method = given.get_start_method()
    if plain or type(given) in [getattr(theirs, name, None) for name in _PLAIN]:
        return _context_of(method)
    if method == "fork":
        return given  # type: ignore[no-any-return]
    raise TypeError(
        f"the context is of {type(given).__qualname__}, which derives from multiprocessing's: derive it from"
        f" procession.context.{type(_context_of(method)).__name__}"
    )
