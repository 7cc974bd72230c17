"""Applies the options of a pool in its worker. It is imported only by workers of a pool that has such options."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["prepare"]


def prepare(more: dict[str, Any]) -> None:
    """Prepares this process before the initializer is called. more: as `OfPool.for_workers` returns it."""
    if (threads := more.get("inner_threads")) is not None:
        from .blas_threads import limit

        limit(threads)
