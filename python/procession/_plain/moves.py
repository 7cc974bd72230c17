"""`procession.move` without the extension, which stands for `procession._serialize.move`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["move"]


def move(obj: T) -> T:
    """Returns `obj`. Here each send copies, so there is nothing to give up."""
    return obj
