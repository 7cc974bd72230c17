"""Starts the threads of a pool of threads, and calls back."""

from __future__ import annotations

import os
import threading
import time

from ..dummy import DummyProcess
from .listeners import Listeners
from .worker import threads as workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .thread_engine import ThreadEngine

__all__ = ["ThreadSupervisor"]

_MOST_FAILED_STARTS = 3


class ThreadSupervisor(Listeners):
    """Starts the threads, and calls back."""

    def __init__(
        self,
        engine: ThreadEngine,
        threads: list[Any],
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        make: Callable[..., Any] = lambda ctx, **kwds: DummyProcess(**kwds),
    ) -> None:
        """make: makes a thread, as `Pool.Process` does."""
        super().__init__()
        self.engine = engine
        self.threads = threads
        self._in_slot: dict[int, Any] = {}
        self.make = make
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.pid = os.getpid()
        self.broken: BaseException | None = None
        self.failed = 0
        self.thread: Any = self  # `join` of a pool calls its method
        engine.tell, engine.on_missing, engine.on_left = self.tell, self._begin, self._has_left

    def start(self) -> None:
        for slot in range(self.engine.workers):
            self._begin(slot)

    def _begin(self, slot: int) -> None:
        thread = self.make(None, target=self._work, args=(slot,))
        thread.daemon = True
        with self.engine.condition:
            self.engine.occupied.add(slot)
            self._in_slot[slot] = thread
            self._list_threads()
        try:
            thread.start()
        except BaseException:
            with self.engine.condition:
                self.engine.occupied.discard(slot)
                self._has_left(slot)
            raise

    def _has_left(self, slot: int) -> None:
        """Forgets a thread that ends because the pool has become smaller. The caller holds the condition."""
        self._in_slot.pop(slot, None)
        self._list_threads()

    def _list_threads(self) -> None:
        self.threads[:] = [thread for _, thread in sorted(self._in_slot.items())]

    def terminated(self) -> None:
        """Waits, after the engine was terminated, for the threads that are not running a task. The others cannot be
        ended; `Pool.join` waits for them as well.
        """
        for slot, thread in sorted(self._in_slot.items()):
            while thread is not threading.current_thread() and thread.is_alive() and not self.engine.is_busy(slot):
                thread.join(0.01)

    def is_alive(self) -> bool:
        """Returns whether any thread has not ended."""
        return any(thread.is_alive() for thread in self.threads)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the threads have ended, at most `timeout` seconds. A thread that runs a callback does not wait
        for itself.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        for thread in list(self.threads):
            if thread is not threading.current_thread():
                thread.join(None if limit is None else max(0.0, limit - time.monotonic()))

    def _live(self, slot: int) -> None:
        while self.initializer is not None:
            try:
                self.initializer(*self.initargs)
            except Exception as error:
                with self.engine.condition:
                    self.failed += 1
                    failed = self.failed
                if failed >= _MOST_FAILED_STARTS:
                    self.broken = error
                    self.engine.terminate("broken")
                    return
            else:
                break
        self.engine.run(slot)

    def _work(self, slot: int) -> None:
        """Runs a worker thread, which finds its number and its state (`procession.worker_id`)."""
        ident = os.getpid(), threading.get_ident()
        workers[ident] = slot, {}
        try:
            self._live(slot)
        finally:
            workers.pop(ident, None)
