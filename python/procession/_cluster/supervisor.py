"""The thread of a pool over a cluster that calls back, and the wait for its first nodes."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from queue import SimpleQueue

from .._pool.listeners import Listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import ClusterEngine

__all__ = ["ClusterSupervisor"]


class ClusterSupervisor(Listeners):
    """Calls the functions of a program in a thread of its own, so that they do not hold up Dask's loop."""

    def __init__(self, pool: Any, engine: ClusterEngine) -> None:
        super().__init__()
        self.engine = engine
        self.pid = os.getpid()
        self.thread: Any = None
        self._events: SimpleQueue[tuple[bool, int] | None] = SimpleQueue()
        self._pool = weakref.ref(pool)
        engine.tell = self._events.put
        engine.resized = self._resize

    @property
    def broken(self) -> BaseException | None:
        """The error that broke the pool; None if it is not broken."""
        return self.engine.broken if self.engine.phase == "broken" else None

    def _resize(self, count: int) -> None:
        pool = self._pool()
        if pool is not None:
            pool._processes = max(1, count)
            runs = self.engine.phase in ("open", "closing")
            links = [link for link in self.engine.links.values() if link.ready and runs]
            pool._pool[:] = [link.node for link in links for _ in range(link.workers)]  # as many as there are workers

    def start(self) -> None:
        """Connects to the nodes, and waits until those that are there now are ready.

        PoolBrokenError: there is no node for as long as `node_timeout`, or the initializer fails on one.
        """
        engine, members = self.engine, self.engine.members
        members.watch(engine)
        self.thread = threading.Thread(target=self._run, name="PoolSupervisor", daemon=True)
        self.thread.start()
        began = heard = time.monotonic()
        with engine.condition:
            while engine.phase == "open":
                links, now = list(engine.links.values()), time.monotonic()
                if links and all(link.ready for link in links):
                    break
                if any(link.ready for link in links) and now - began > members.node_timeout:
                    break  # the others may come later
                if any(link.connected for link in links):  # its workers are starting
                    heard = now
                elif now - heard > members.node_timeout:
                    engine.break_without_nodes()
                engine.condition.wait(0.05)
        if engine.broken is not None:
            raise engine.broken

    def _run(self) -> None:
        engine = self.engine
        ender = threading.Thread(target=self._end, name="PoolEnder", daemon=True)
        ender.start()
        while (key := self._events.get()) is not None:
            self._tell(key)
        engine.members.unwatch(engine)
        for key in list(self.watched):
            self._tell(key)

    def _tell(self, key: tuple[bool, int]) -> None:
        """Calls back. If that raises SystemExit or the like, the pool ends, as a pool of one machine does."""
        try:
            self.tell(key)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self.engine.terminate()

    def _end(self) -> None:
        engine = self.engine
        with engine.condition:
            engine.condition.wait_for(lambda: engine.phase not in ("open", "closing"))
        engine.wait_for_end()
        self._events.put(None)

    def terminated(self) -> None:
        """Waits until the nodes have ended the pool, after the engine was terminated."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
