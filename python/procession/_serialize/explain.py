"""Explains errors: which part of an object cannot be pickled, and what a message contains that cannot be unpickled."""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["explain_pickling", "explain_unpickling", "parts_of"]

_MOST_LOOKS = 200  # number of parts of an object that are tried: each takes as long as pickling it
_MOST_CLASSES = 5  # number of names in a note


def explain_pickling(error: BaseException, obj: object) -> None:
    """Adds a note to the error: the type of the object, and the part of it that cannot be pickled.

    It pickles one part after the other, up to a limit, so a `__reduce__` may be called more than once.
    """
    if not isinstance(error, Exception):
        return
    path, culprit = _find(obj)
    what = _name(type(obj))
    if path:
        what += f", because of what is at {path}: {_name(type(culprit))}"
    error.add_note(f"raised while an object was pickled to be sent: {what}")


def explain_unpickling(error: BaseException, message: Any) -> None:
    """Adds a note to the error: the length of the message, and the classes and functions that it names."""
    if not isinstance(error, Exception):
        return
    named = _globals(bytes(memoryview(message)[: 1 << 20]))
    what = f" that names {', '.join(named)}" if named else ""
    error.add_note(
        f"raised by a message of {len(message)} bytes{what}; it was removed, and the next one can be received"
    )


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _find(obj: object) -> tuple[str, object]:
    """Returns the path to the smallest part that cannot be pickled by itself, and that part."""
    path, looks = "", 0
    seen = {id(obj)}
    while True:
        for step, part in parts_of(obj):
            looks += 1
            if looks > _MOST_LOOKS:
                return path, obj
            if id(part) not in seen and not _can_be_pickled(part):
                seen.add(id(part))
                path, obj = path + step, part
                break
        else:
            return path, obj


def parts_of(obj: object) -> Iterator[tuple[str, object]]:
    """Yields the parts of an object, each with its step in a path: `[0]`, `.name`."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            yield f"[{_short(key)}]", value
            yield f" key {_short(key)}", key
    elif isinstance(obj, (list, tuple)):
        for number, part in enumerate(obj):
            yield f"[{number}]", part
    elif isinstance(obj, (set, frozenset)):
        for part in obj:
            yield f" element {_short(part)}", part
    elif isinstance(obj, MethodType):
        yield ".__self__", obj.__self__
    elif isinstance(obj, partial):
        yield ".func", obj.func
        yield ".args", obj.args
        yield ".keywords", obj.keywords
    names = getattr(obj, "__dict__", None)
    if isinstance(names, dict) and not isinstance(obj, (type, FunctionType, MethodType)):
        for name, part in names.items():
            yield f".{name}", part


def _short(obj: object) -> str:
    try:
        text = repr(obj)
    except Exception:
        text = f"<{_name(type(obj))}>"
    return text if len(text) <= 40 else text[:37] + "..."


def _can_be_pickled(obj: object) -> bool:
    from ..reduction import ForkingPickler
    from .by_value import dumps

    try:
        dumps(obj, lambda part: bytes(ForkingPickler.dumps(part, 5)))
    except Exception:
        return False
    return True


def _globals(pickled: bytes) -> list[str]:
    """Returns the names in a pickle, as far as it can be read."""
    import pickletools

    found: list[str] = []
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                name = f"{strings[-2]}.{strings[-1]}"
                if name not in found:
                    found.append(name)
                if len(found) == _MOST_CLASSES:
                    break
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception:  # for example a pickle that ends in the middle
        pass
    return found
