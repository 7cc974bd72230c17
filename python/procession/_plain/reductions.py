"""The module `multiprocessing.reduction`, with what our own modules call. It stands for `procession.reduction`."""

from __future__ import annotations

from multiprocessing import reduction as _theirs
from multiprocessing.reduction import ForkingPickler
from typing import Any

__all__ = ["ForkingPickler", "dumps"]


def dumps(obj: Any) -> bytes:
    """Pickles an object. Functions and classes go by value if the receiver may not find them by name."""
    from .._serialize import by_value

    return by_value.dumps(obj, _plainly)


def _plainly(obj: Any) -> bytes:
    return bytes(ForkingPickler.dumps(obj))


_dumps_slow = dumps  # its name in `procession.reduction`


def _reducers() -> dict[type, Any]:
    """Returns the reducers that were registered with `ForkingPickler`."""
    found: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return found


def __getattr__(name: str) -> Any:
    return getattr(_theirs, name)
