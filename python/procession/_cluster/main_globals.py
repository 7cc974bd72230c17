"""Global variables of the main module that a pool's initializer sets, for the tasks of its worker.

Functions of the main module go by value, so each that arrives has a dictionary of globals of its own, with those that
it names. An initializer that keeps something for later (`global lock; lock = its_argument`) sets it in its own
dictionary. What it leaves there is put into that of each function that arrives after it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

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

# Modules of classes whose objects never change, and of our handles.
_UNCHANGING = frozenset({"datetime", "decimal", "fractions", "pathlib", "procession", "re", "uuid", "zoneinfo"})

_kept: dict[str, Any] = {}  # what the initializer of this worker has left
_arriving: list[FunctionType] | None = None  # while the initializer is unpickled: its functions


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
        _arriving.append(function)
    elif _kept:
        function.__globals__.update(_kept)


@contextmanager
def arriving() -> Iterator[list[FunctionType]]:
    """Around the unpickling of an initializer: yields a list of its functions, filled meanwhile."""
    global _arriving  # noqa: PLW0603 (of this process)
    found: list[FunctionType] = []
    _arriving = found
    try:
        yield found
    finally:
        _arriving = None


def keep(functions: Iterable[FunctionType], globals_before: Iterable[dict[str, Any]]) -> None:
    """Keeps what an initializer has left, for the functions that arrive later.

    functions: those of the initializer. globals_before: copies of the global variables of each, before it was called.
    """
    for function, before in zip(functions, globals_before, strict=True):
        assigned = set(_assigned(function.__code__))
        for name, value in function.__globals__.items():
            is_new = name in assigned or name not in before or before[name] is not value
            if (is_new or not _is_as_sent(value)) and name != "__builtins__":
                _kept[name] = value


def _is_as_sent(value: Any) -> bool:
    """Returns whether calls cannot change the value, or change what all processes share."""
    kind = type(value)
    return isinstance(value, (*_AS_SENT, Enum)) or kind.__module__.partition(".")[0] in _UNCHANGING


def _assigned(code: CodeType) -> Iterator[str]:
    """Yields the global variables to which code assigns."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _assigned(constant)
