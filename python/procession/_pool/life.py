"""The part of `Pool` for its own size and end."""

from __future__ import annotations

from .. import util
from .._arguments import count, seconds
from .compat import PoolNames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self
    from weakref import WeakSet

    from .imap_input import Feed

__all__ = ["CLOSE", "RUN", "TERMINATE", "PoolLife"]

# values of `_state` of a pool
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


class PoolLife(PoolNames):
    """The base class of `Pool`."""

    _feeds: WeakSet[Feed]

    def _check_running(self) -> None:
        """ValueError, PoolBrokenError: the pool takes no calls."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self._state != RUN:
            raise ValueError("Pool not running")
        return self

    def __exit__(self, *exc: object) -> None:
        self.terminate()

    def terminate(self) -> None:
        """Ends the pool."""
        raise NotImplementedError

    def resize(self, processes: int) -> None:
        """Sets the number of workers, while the pool runs. Returns at once. multiprocessing has no such method.

        Missing workers are started. Workers that are too many, the last of `statistics()`, finish the task that they
        run, and end. If one dies meanwhile, its task fails or is run again as ever.

        Args:
            processes: number of workers, at least 1.

        Raises:
            ValueError: the pool is closed; its workers are those of a cluster, or of a subclass.
        """
        self._check_running()
        if count("processes", processes, 1) >= 1 << 31:
            raise ValueError(f"processes must be less than 2**31, not {processes}")
        self._engine.resize(processes)
        self._supervisor.trim()
        self._processes = processes

    def join(self, timeout: float | None = None) -> None:
        """Waits until all workers have ended.

        Args:
            timeout: seconds; None: without limit. multiprocessing has no such parameter.

        Raises:
            ValueError: neither `close()` nor `terminate()` was called.
            procession.TimeoutError: some workers run after that time. They go on; `join` may be called again.
        """
        util.debug("joining the pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        limit = seconds("timeout", timeout)
        for feed in list(self._feeds):
            feed.lift()
        if limit is None:
            self._engine.wait_by(self._supervisor.thread.join, ())
        else:
            from .ending import join_for

            join_for(self, limit)

    async def __aenter__(self) -> Self:
        self.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """As `__exit__`: ends the pool. The event loop goes on meanwhile. multiprocessing has no `async with`."""
        from .ending import in_a_thread

        await in_a_thread(self.__exit__, *exc)
