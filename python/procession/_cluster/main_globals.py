"""Global variables of the main module that a pool's initializer sets, for the tasks of its worker.

Functions of the main module go by value, so each that arrives has a dictionary of globals of its own, with those that
it names. An initializer that keeps something for later (`global lock; lock = its_argument`) sets it in its own
dictionary. What it leaves there is put into that of each function that arrives after it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["arriving", "keep", "with_kept"]

# Values that only assigning can change. Where the initializer has not done so, the newer one of the task is right.
_AS_SENT: tuple[type, ...] = (
    *(BuiltinFunctionType, FunctionType, ModuleType, type),
    *(bool, bytes, complex, float, frozenset, int, str, tuple, type(None)),
)

_kept: dict[str, Any] = {}  # what the initializer of this worker has left
_arriving: list[dict[str, Any]] | None = None  # while the initializer is unpickled: the globals of its functions


def with_kept(function: Any, reduced: Any) -> Any:
    """Returns how to pickle a function that goes by value: where it arrives, it gets what `keep` has kept.

    reduced: how cloudpickle would do it.
    """
    main = sys.modules.get("__main__")
    if main is None or function.__globals__ is not main.__dict__ or not isinstance(reduced, tuple) or len(reduced) != 6:
        return reduced
    make, arguments, state, _, _, set_state = reduced
    return make, arguments, (set_state, state), None, None, _set


def _set(function: Any, how: tuple[Any, Any]) -> None:
    """Sets the state of a function that arrives. Pickles name this function."""
    set_state, state = how
    set_state(function, state)
    if _arriving is not None:
        _arriving.append(function.__globals__)
    elif _kept:
        function.__globals__.update(_kept)


@contextmanager
def arriving() -> Iterator[list[dict[str, Any]]]:
    """Around the unpickling of an initializer: yields a list of the globals of its functions, filled meanwhile."""
    global _arriving  # noqa: PLW0603 (of this process)
    found: list[dict[str, Any]] = []
    _arriving = found
    try:
        yield found
    finally:
        _arriving = None


def keep(globals_after: Iterable[dict[str, Any]], globals_before: Iterable[dict[str, Any]]) -> None:
    """Keeps what an initializer has left, for the functions that arrive later."""
    for after, before in zip(globals_after, globals_before, strict=True):
        for name, value in after.items():
            is_new = name not in before or before[name] is not value
            if (is_new or not isinstance(value, _AS_SENT)) and name != "__builtins__":
                _kept[name] = value
