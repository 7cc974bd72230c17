"""Starts the workers of a pool without the extension, and the threads that carry tasks to them; calls back."""

from __future__ import annotations

import os
import threading
import time

from .._pool.listeners import Listeners
from . import worker
from .carrier import Carrier
from .engine import ProcessEngine
from .errors import refusal
from .relays import Relays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .._pool.options import OfPool

__all__ = ["Supervisor", "make_parts"]


def make_parts(context: Any, pool: Any, asked: OfPool) -> tuple[Any, Any]:
    """Makes the engine and the supervisor of a pool.

    Raises:
        NotNativeError: an option needs the extension.
    """
    from ..pool import Pool

    if type(pool)._make_parts is not Pool._make_parts:  # of threads
        parts: tuple[Any, Any] = pool._make_parts(pool._processes, asked)
        return parts
    if asked.worker_memory_limit is not None:
        raise refusal("worker_memory_limit=", "maxtasksperchild=")
    engine = ProcessEngine(pool._processes)
    return engine, Supervisor(engine, context, pool, asked)


class Supervisor(Listeners):
    """The threads of a pool, and what they have in common. It has no reference to the pool, which can be collected."""

    def __init__(self, engine: ProcessEngine, context: Any, pool: Any, asked: OfPool) -> None:
        super().__init__()
        self.engine = engine
        self.context = context
        self.processes: list[Any] = pool._pool
        self.make: Callable[..., Any] = pool.Process
        self.relays = Relays(asked.for_workers() or {})
        self.pid = os.getpid()
        self.thread: Any = self  # `join` of a pool calls its method
        self._worker = pool._initializer, tuple(pool._initargs)
        self._most: int | None = pool._maxtasksperchild
        self._threads: list[threading.Thread] = []
        self._in_slot: dict[int, Any] = {}
        # one start at a time: a fork would copy the ends of another start's pipe
        self._starting = threading.Lock()
        engine.tell, engine.on_missing = self.tell, self._add

    @property
    def broken(self) -> BaseException | None:
        """The error that broke the pool; None if it is not broken."""
        return self.engine.broken

    def start(self) -> None:
        """Starts all workers, in this thread, and then the threads. Passes on an exception of a worker's start."""
        carriers = [self._carrier(slot) for slot in range(self.engine.workers)]
        try:
            for carrier in carriers:
                carrier.start()
        except BaseException:
            for carrier in carriers:
                carrier.kill()
            self.relays.finish()
            raise
        self.relays.begin()
        for carrier in carriers:
            self._begin(carrier.slot)

    def _carrier(self, slot: int) -> Carrier:
        carrier = Carrier(self.engine, slot, self._start, self.relays, self._most)
        self.engine.carriers[slot] = carrier
        return carrier

    def _add(self, slot: int) -> None:
        """Starts one more worker and its thread, when the pool has become bigger."""
        self._carrier(slot).start()
        self._begin(slot)

    def _begin(self, slot: int) -> None:
        with self.engine.condition:
            self.engine.occupied.add(slot)
        thread = threading.Thread(target=self._run, args=(slot,), name="PoolCarrier", daemon=True)
        self._threads = [*self._alive(), thread]
        thread.start()

    def _run(self, slot: int) -> None:
        carrier = self.engine.carriers[slot]
        try:
            self.engine.run(slot)
        except BaseException as error:
            self.engine.breaks(error)  # so that no thread waits for work that this thread cannot do
            raise
        finally:
            with self.engine.condition:  # unless the pool has become bigger again
                if slot >= self.engine.workers and self.engine.carriers[slot] is carrier:
                    self._in_slot.pop(slot, None)
                    self._list_processes()

    def _list_processes(self) -> None:
        in_slot = list(self._in_slot.items())  # at once: another thread may change it
        self.processes[:] = [process for _, process in sorted(in_slot)]

    # --- a worker ---

    def _start(self, slot: int) -> tuple[Any, Any, Any]:
        item = self.context.RawValue("l", 0)
        with self._starting:
            ours, its = self.context.Pipe()
            told = worker.Told(*self._worker, self.relays.for_worker(slot))
            process = self.make(self.context, target=worker.main, args=(its, slot, item, os.getpid(), told))
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = False  # a daemon could have no children; `worker` sees to it that it ends
            try:
                process.start()
            except BaseException:
                ours.close()
                raise
            finally:
                its.close()
                self.relays.started(slot, getattr(process, "pid", None) or 0)
        self._in_slot[slot] = process
        self._list_processes()
        return process, ours, item

    # --- the end ---

    def _alive(self) -> list[threading.Thread]:
        return [thread for thread in self._threads if thread.is_alive() or thread.ident is None]

    def is_alive(self) -> bool:
        """Returns whether any worker has not ended."""
        return bool(self._alive())

    def join(self, timeout: float | None = None) -> None:
        """Waits until the workers have ended, at most `timeout` seconds. A thread that runs a callback does not wait
        for itself."""
        limit = None if timeout is None else time.monotonic() + timeout
        for thread in self._alive():
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(None if limit is None else max(0.0, limit - time.monotonic()))
        if not [thread for thread in self._alive() if thread is not threading.current_thread()]:
            self.relays.finish()

    def terminated(self) -> None:
        """Waits until the workers have ended, after the engine was terminated."""
        self.join()
