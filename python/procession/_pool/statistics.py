"""What the workers of a pool do now, for people to read."""

from __future__ import annotations

import os
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["WorkerStatistics", "read"]


class WorkerStatistics(NamedTuple):
    """One worker, at the moment of the call."""

    pid: int
    """Its process id; 0 while it is being replaced."""
    state: str
    """"starting", "idle", "busy" or "gone"."""
    task: int | None
    """The index of the item, or the number of the task, on which it works; None if it has none."""
    seconds: float
    """For how long it has been working on that task, or idle."""
    done: int
    """Number of tasks that were done in its place since the pool was made."""
    restarts: int
    """Number of workers that were started there in place of others."""
    memory: int
    """Bytes of its resident memory, with shared memory; 0 if unknown."""
    node: str | None = None
    """The name of the node of a cluster on which it runs; None: this machine."""


def read(engine: Engine) -> list[WorkerStatistics]:
    """Returns the statistics of all workers of an engine."""
    ask = getattr(engine, "ask_nodes", None)
    if ask is not None:  # of a cluster: rows that this function has returned on the nodes
        return [WorkerStatistics._make([*row[:-1], node]) for node, row in ask(5.0)]
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
