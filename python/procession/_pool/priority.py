"""Checks the priority of a call."""

from __future__ import annotations

from .._arguments import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["checked"]

_MOST = 2**31 - 1


def checked(engine: Any, priority: Any) -> int:
    """Returns the priority. ValueError: it is too big, or it is not 0 and the pool has no priorities."""
    number = count("priority", priority, None)
    if abs(number) > _MOST:
        raise ValueError(f"priority must be between {-_MOST} and {_MOST}, not {number}")
    if number and not getattr(engine, "has_priorities", True):
        raise ValueError(f"{engine.kind} has no priorities: its calls are run in their order")
    return number
