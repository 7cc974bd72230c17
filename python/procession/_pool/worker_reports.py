"""The methods of a pool that tell of its workers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import Engine, Supervisor
    from .statistics import WorkerStatistics

__all__ = ["WorkerReports"]


class WorkerReports:
    """A base class of `Pool`."""

    _engine: Engine
    _supervisor: Supervisor

    def statistics(self) -> list[WorkerStatistics]:
        """Returns what each worker does now, and figures since it started. It takes no lock and stops no worker."""
        from .statistics import read

        return read(self._engine)

    def exit_results(self, *, return_exceptions: bool = False) -> list[Any]:
        """Returns the results of `exit_function` in the workers that have ended, in the order of their ends.

        After `close()` and `join()` these are all. A worker that was terminated or killed has none. The results stay:
        a later call returns them again. multiprocessing has no such method.

        Args:
            return_exceptions: returns exceptions of `exit_function` in the places of results.

        Raises:
            ValueError: the pool has no `exit_function`.
            Exception: `exit_function` has raised it in a worker.
        """
        exits = getattr(getattr(self._supervisor, "relays", None), "exits", None)
        if exits is None:
            raise ValueError("the pool was made without exit_function")
        results: list[Any] = exits.read(return_exceptions)
        return results
