"""Checks of arguments. The call that gets a wrong argument raises at once and names the parameter."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["check_call", "count", "seconds", "size"]

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", 1):
    _UNITS[_letter] = _UNITS[f"{_letter}B"] = 1000**_power
    _UNITS[f"{_letter}I"] = _UNITS[f"{_letter}IB"] = 1024**_power


def count(name: str, value: Any, least: int | None) -> int:
    """Returns a whole number. TypeError: `value` is none. ValueError: it is less than `least`; None: no least one."""
    try:
        number: int = value.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{name} must be an integer, not {_shown(value)}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be {least} or more, not {number}")
    return number


def seconds(name: str, value: Any) -> float | None:
    """Returns seconds, or None (without limit). TypeError: `value` is no number. ValueError: it is negative or NaN."""
    if value is None:
        return None
    try:
        if isinstance(value, str):  # float() would accept "3"
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number of seconds or None, not {_shown(value)}") from None
    if not number >= 0:  # also true for NaN
        raise ValueError(f"{name} must be 0 seconds or more, not {value!r}")
    return number


def size(name: str, value: Any) -> int:
    """Returns a number of bytes: 4_000_000_000, "4GB", "4 GB" or "3.5GiB", in upper or lower case.

    A GB has 1000**3 bytes, a GiB 1024**3. TypeError: `value` is neither a whole number nor a str. ValueError: it is
    negative, or a text that is no number of bytes.
    """
    if not isinstance(value, str):
        try:
            number: int = value.__index__()
        except (AttributeError, TypeError):
            raise TypeError(f'{name} must be a number of bytes, or a text like "4GB", not {_shown(value)}') from None
    else:
        text = value.strip()
        digits = text.rstrip("BIKMGTPbikmgtp ")
        unit = _UNITS.get(text[len(digits) :].strip().upper())
        try:
            exact = float(digits.replace(" ", "?"))  # float() would accept spaces
            if unit is None or exact != exact or exact in (float("inf"), float("-inf")):
                raise ValueError
        except ValueError:
            raise ValueError(f'{name} must say a number of bytes, as "4GB" or "512MiB" do, not {value!r}') from None
        number = int(digits) * unit if digits.isdecimal() else int(exact * unit)
    if number < 0:
        raise ValueError(f"{name} must be 0 bytes or more, not {value!r}")
    return number


def check_call(args: Iterable[Any], kwds: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of a call. TypeError: `args` is not iterable, or `kwds` is no mapping with str keys."""
    try:
        positional = tuple(args)
    except TypeError:
        if hasattr(args, "__iter__"):  # an error that reading it raises is passed on
            raise
        raise TypeError(f"args must be the arguments of the call, as a tuple, not {_shown(args)}") from None
    if not hasattr(kwds, "keys"):
        raise TypeError(f"kwds must be the keyword arguments of the call, as a dict, not {_shown(kwds)}")
    named = dict(kwds)
    for key in named:
        if not isinstance(key, str):
            raise TypeError(f"kwds must have names for keys, not {_shown(key)}")
    return positional, named


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) > 60:
        text = f"{text[:57]}..."
    return f"{type(value).__name__}: {text}"
