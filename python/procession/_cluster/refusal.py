"""What is of use on this machine only, and the error that says so: what it is, where it is, what to use instead."""

from __future__ import annotations

import sys
from types import CodeType, FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Refused", "is_of_family", "locate", "refuse"]

_MOST_LOOKS = 5000  # number of parts of an object that are looked at for the one that was refused

# What to use instead, by the name of a class or of a base class of it.
_INSTEAD = {
    "Queue": "the Queue of the cluster's context",
    "JoinableQueue": "the JoinableQueue of the cluster's context",
    "_SafeQueue": "procession.futures.ProcessPoolExecutor, and not that of concurrent.futures",
    "SimpleQueue": "the SimpleQueue of the cluster's context",
    "Lock": "the Lock of the cluster's context",
    "RLock": "the RLock of the cluster's context",
    "Semaphore": "the Semaphore of the cluster's context",
    "BoundedSemaphore": "the BoundedSemaphore of the cluster's context",
    "Condition": "the Condition of the cluster's context",
    "Event": "the Event of the cluster's context",
    "Barrier": "the Barrier of the cluster's context",
    "Wire": "the Queue of the cluster's context",
    "ConnectionBase": "the Queue of the cluster's context",
    "_ConnectionBase": "the Queue of the cluster's context",
    "Dict": "the dict of a Manager",
    "SharedDict": "the dict of a Manager",
    "Guarded": "the Value or Array of a Manager",
    "SynchronizedBase": "the Value or Array of a Manager",
    "Shared": "the Value or Array of a Manager",
    "SharedArray": "a copy, numpy.array(a)",
    "SharedMemory": "a copy of its bytes",
    "ShareableList": "the list of a Manager",
    "Array": "a copy of its bytes",
}
# The names under which a program makes what has a class of another name.
_MADE_AS = {"SynchronizedArray": "Array", "SynchronizedBase": "Value", "SharedArray": "ndarray", "Block": "Array"}
# The modules whose objects are of the family. (`_core` has the base classes in Rust.) Those of the standard library's
# package cannot be sent either; where this package stands for it, they do not exist.
_FAMILY = (
    "procession._core",
    "procession._memory.ctypes_types",
    "procession._memory.shared_array",
    "procession.connection",
    "procession.shared_memory",
    "multiprocessing.connection",
    "multiprocessing.queues",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
)


class Refused(TypeError):
    """Raised for an object of the family. `refused`: that object, until `locate` has looked for it."""

    refused: Any = None


Refused.__name__ = Refused.__qualname__ = "TypeError"
Refused.__module__ = "builtins"


def refuse(obj: object) -> Any:
    """Raises TypeError: the object is of this machine. The error names what to use instead."""
    instead = next((_INSTEAD[base.__name__] for base in type(obj).__mro__ if base.__name__ in _INSTEAD), None)
    text = f"{_described(obj)} is an object of this machine, and this call goes to another one"
    error = Refused(text + (f": use {instead}" if instead else ""))
    error.refused = obj
    raise error


def _described(obj: object) -> str:
    """Returns the name under which the program has made the object, with its article."""
    kind = type(obj)
    names = [base.__name__ for base in kind.__mro__]
    name = kind.__name__
    if kind.__module__.startswith(("procession.", "multiprocessing.")):
        name = next((_MADE_AS[base] for base in names if base in _MADE_AS), name)
    if "Shared" in names and "_CData" in names:
        name = "RawArray" if "Array" in names else "RawValue"
    article = "an" if name[0] in "AEIOaeio" or name in ("RLock", "ndarray") else "a"
    whose = " of the standard library's multiprocessing" if kind.__module__.startswith("multiprocessing.") else ""
    return f"{article} {name}{whose}"


def is_of_family(obj: object) -> bool:
    """Returns whether an object is of use on this machine only."""
    kind = type(obj)
    if kind.__name__ == "socket" and isinstance(obj, getattr(sys.modules.get("socket"), "socket", ())):
        return True
    if all(base.__module__ not in _FAMILY for base in kind.__mro__):
        return False
    offset = getattr(obj, "_offset", None)  # of a SharedArray: a result that numpy has computed is an ordinary array
    return not callable(offset) or offset() is not None


def locate(error: Refused, obj: object) -> None:
    """Adds a note to an error of `refuse`: where in `obj`, which was pickled, the refused object is."""
    wanted, error.refused = error.refused, None
    path = None if wanted is obj else _path(obj, wanted)
    if path:
        text = f"{type(obj).__qualname__}, because of what is at {path}: {type(wanted).__qualname__}"
        error.add_note(f"raised while an object was pickled to be sent: {text}")


def _path(obj: object, wanted: object) -> str | None:
    """Returns the path to a part of an object; None if it is not found. The shortest one is found first."""
    from .._serialize.explain import parts_of

    found: list[tuple[str, object]] = [("", obj)]
    seen = {id(obj)}
    for path, whole in found:  # grows meanwhile
        for step, part in _variables(whole) if isinstance(whole, FunctionType) else parts_of(whole):
            if part is wanted:
                return (path + step).strip()
            if id(part) not in seen and len(found) < _MOST_LOOKS and not isinstance(part, (str, bytes, int, float)):
                seen.add(id(part))
                found.append((path + step, part))
    return None


def _variables(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yields what a function takes along: its defaults, variables of functions around it, and the globals it names."""
    name = function.__qualname__
    for number, default in enumerate(function.__defaults__ or ()):
        yield f" default {number} of {name}()", default
    for variable, default in (function.__kwdefaults__ or {}).items():
        yield f" default of {variable!r} of {name}()", default
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" variable {variable!r} of {name}()", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for variable in _named(function.__code__):
        if variable in function.__globals__:
            yield f" global {variable!r} of {name}()", function.__globals__[variable]


def _named(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _named(part)
