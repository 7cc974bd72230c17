"""How the workers of a pool are doing, for people."""

from __future__ import annotations

import os
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["WorkerStatistics", "read"]


class WorkerStatistics(NamedTuple):
    """One worker, at the moment of asking."""

    pid: int
    """Its process id; 0 while it is being replaced."""
    state: str
    """"starting", "idle", "busy" or "gone"."""
    task: int | None
    """The index of the item that it is at, or the number of its task; None if it has none."""
    seconds: float
    """For how long it has been busy with that task, or idle."""
    done: int
    """Tasks that were done in its place since the pool was made."""
    restarts: int
    """Workers that were started there in place of others."""
    memory: int
    """Bytes of its resident memory, shared ones included; 0 if they cannot be told."""


def read(engine: Engine) -> list[WorkerStatistics]:
    """All workers of an engine."""
    rows = []
    for pid, ready, task, group, number, item, seconds, done, restarts in engine.statistics():
        state = "gone" if not pid else "starting" if not ready else "busy" if task else "idle"
        index = None if not task else number + item if group else task
        rows.append(WorkerStatistics(pid, state, index, seconds, done, restarts, _memory(pid)))
    return rows


def _memory(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
