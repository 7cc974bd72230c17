"""Applies the options of a pool in its worker. It is imported only by workers of a pool that has such options."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["finish", "prepare"]


def prepare(more: dict[str, Any]) -> None:
    """Prepares this process before the initializer is called. more: as `OfPool.for_workers` returns it."""
    for name in ("output", "logs"):
        if (source := more.get(name)) is not None:
            source.install()
    if (threads := more.get("inner_threads")) is not None:
        from .blas_threads import limit

        limit(threads)
    if (pin := more.get("pin")) is not None:
        from .worker import worker_id

        cpus = [[cpu] for cpu in sorted(os.sched_getaffinity(0))] if pin == "cores" else pin
        os.sched_setaffinity(0, cpus[(worker_id() or 0) % len(cpus)])
    for name, value in more.get("env", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def finish(more: dict[str, Any], in_order: bool) -> None:
    """Called when this worker has no more tasks. in_order: the pool was closed, or the worker is to be replaced."""
    if in_order and (exits := more.get("exit_function")) is not None:
        exits.call()
    if (inherited := more.get("random")) is not None:
        inherited.end()
