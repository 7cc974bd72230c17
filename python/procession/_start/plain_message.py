"""Start messages without pickle, for processes that need none.

A spawned child that unpickles nothing does not import pickle, which saves a fifth of its start time. Most processes
have a function of a module as target, and a few numbers and strings as arguments. `marshal` sends these as they are;
everything else is pickled. marshal keeps types, values and the identity of lists, as pickle does. Objects that it would
change (bytearrays, subclasses) are not plain.
"""

from __future__ import annotations

import sys
from marshal import dumps, loads

from .._process.stdlib_compat import standard_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..process import BaseProcess

__all__ = ["MARK", "packed", "preparation", "settings_of", "settings_packed", "unpacked"]

MARK = b"procession\0"  # the first bytes of a plain start message
VERSION = 4  # the format of marshal that all supported versions of Python read
MOST, MOST_SETTINGS = 300, 10_000  # number of objects that are examined
BIG = 256 << 10  # bytes from which on mapping is faster than copying; the core has the same number

_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
_LISTS = frozenset((tuple, list, set, frozenset))


def packed(preparation: dict[str, Any], process_obj: BaseProcess) -> bytes | None:
    """Returns the start message; None if it has to be pickled."""
    from .. import context, process

    kinds = (context.Process, context.SpawnProcess, context.ForkServerProcess)
    if type(process_obj) not in kinds:
        return None
    state = process_obj.__dict__.copy()
    target = state.pop("_target")
    named = None if target is None else _name_of(target)
    config = state["_config"] = state["_config"].copy()
    for holder in (preparation, config):
        if type(holder.get("authkey")) is not process.AuthenticationString:
            return None
    preparation = {**preparation, "authkey": bytes(preparation["authkey"])}
    config["authkey"] = bytes(config["authkey"])
    if (target is not None and named is None) or not _is_plain([preparation, state]):
        return None
    try:
        return MARK + dumps((preparation, (kinds.index(type(process_obj)), named, state)), VERSION)
    except ValueError:  # nested too deeply
        return None


def _name_of(target: Any) -> tuple[str, str] | None:
    """Returns module and name with which a child finds this function; None if it does not."""
    from .._serialize import by_value

    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if type(target) not in (type(_name_of), type(len)) or _has_reducer(type(target)):
        return None
    if type(module) is not str or type(name) is not str or _find(sys.modules.get(module), name) is not target:
        return None
    if module in by_value.MAIN and not by_value.main_is_found():
        return None
    return module, name


def _has_reducer(kind: type) -> bool:
    """Returns whether the program has registered a reducer for this type, without importing `reduction`."""
    ours, theirs = sys.modules.get("procession.reduction"), standard_library("reduction")
    if ours is not None:
        return kind in ours._reducers()
    return theirs is not None and kind in theirs.ForkingPickler._extra_reducers


def _find(place: Any, name: str) -> Any:
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


def _is_plain(objects: list[Any], most: int = MOST) -> bool:
    """Returns whether these consist of built-ins that marshal reproduces. The limit also ends recursive structures."""
    seen = 0
    while objects:
        obj = objects.pop()
        seen += 1
        if seen > most:
            return False
        kind = type(obj)
        if kind in _LISTS:
            objects.extend(obj)
        elif kind is dict:
            objects.extend(obj)
            objects.extend(obj.values())
        elif kind not in _ATOMS or (kind is bytes and len(obj) >= BIG):
            return False
    return True


def settings_packed(settings: dict[str, Any]) -> bytes:
    """Returns the message with the settings of a fork server: pickled only if they have to be."""
    try:
        if _is_plain([settings], MOST_SETTINGS):
            return MARK + dumps(settings, VERSION)
    except ValueError:  # nested too deeply
        pass
    from pickle import dumps as pickled

    return pickled(settings)


# --- in the child ---


def settings_of(message: bytes) -> dict[str, Any]:
    """Returns what `settings_packed` got."""
    if message.startswith(MARK):
        found: dict[str, Any] = loads(memoryview(message)[len(MARK) :])
    else:
        from .start_message import loads as unpickled

        found = unpickled(message)
    return found


def preparation(message: bytes) -> tuple[dict[str, Any], Any]:
    """Returns what the child needs before it can make its Process object; and the rest of the message."""
    first, rest = loads(memoryview(message)[len(MARK) :])
    return first, rest


def unpacked(rest: Any) -> BaseProcess:
    """Makes the Process object."""
    from .. import context, process

    kind, named, state = rest
    state["_config"]["authkey"] = process.AuthenticationString(state["_config"]["authkey"])
    if named is None:
        state["_target"] = None
    else:
        module, name = named
        __import__(module)
        state["_target"] = target = _find(sys.modules[module], name)
        if target is None:
            raise AttributeError(f"Can't get attribute {name!r} on {sys.modules[module]!r}")
    kinds: tuple[type[BaseProcess], ...] = (context.Process, context.SpawnProcess, context.ForkServerProcess)
    made: BaseProcess = kinds[kind].__new__(kinds[kind])
    made.__dict__.update(state)
    return made
