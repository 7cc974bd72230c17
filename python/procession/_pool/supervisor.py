"""The thread that looks after the workers of a pool: starts and replaces them, and calls back.

It waits in Rust without the interpreter, and has no reference to the `Pool` object, so that this can be collected.
"""

from __future__ import annotations

import os
import sys
import threading

from ..process import what_ended
from . import worker
from .listeners import Listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .._core import PoolEngine
    from ..context import BaseContext
    from ..process import BaseProcess
    from .options import OfPool
    from .relays import Relays

__all__ = ["Supervisor"]


class Supervisor(Listeners):
    """The state of the thread. processes: the workers, in the order of their slots; it is the list `Pool._pool`."""

    def __init__(
        self,
        engine: PoolEngine,
        context: BaseContext,
        processes: list[BaseProcess],
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        most: int | None,
        asked: OfPool,
        make: Callable[..., BaseProcess],
    ) -> None:
        """make: makes a process, as `Pool.Process` does."""
        super().__init__()
        self.make = make
        self.engine = engine
        self.context = context
        self.processes = processes
        self._in_slot: dict[int, BaseProcess] = {}
        self._empty: set[int] = set()  # the slots whose worker has ended and has no successor yet
        more = asked.for_workers()
        self.relays: Relays | None = None
        inherits = "numpy.random" in sys.modules and context.get_start_method() == "fork"
        if more is not None or inherits:
            from .relays import Relays

            self.relays = Relays(context, more or {}, inherits)
        self.worker = (initializer, tuple(initargs), most, asked.worker_memory_limit)
        self.environment = asked.environment()
        self.pid = os.getpid()
        # the worker that ended last, and the exception if one could not be started
        self._last: BaseProcess | None = None
        self._refusal: BaseException | None = None
        self._why: BaseException | None = None
        self.thread: threading.Thread | None = None

    def terminated(self) -> None:
        """Waits until the workers have ended, after the engine was terminated."""
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()

    def start(self) -> None:
        """Starts all workers, in this thread, and then the thread. Passes on an exception of a worker's start."""
        while True:
            kind, slot = self.engine.next_event(0)
            if kind != "start":
                break
            try:
                self._start(slot)
            except BaseException:
                self.engine.start_failed(slot)
                if self.relays is not None:
                    self.relays.finish()
                raise
        if self.relays is not None:
            self.relays.begin()
        self.thread = threading.Thread(target=self._run, name="PoolSupervisor", daemon=True)
        self.thread.start()

    def _start(self, slot: int) -> None:
        relays = self.relays
        more = None if relays is None else relays.for_worker(slot)
        process = self.make(self.context, target=worker.main, args=(self.engine.handle, slot, *self.worker, more))
        process.name = process.name.replace("Process", "PoolWorker")
        process.daemon = True
        if self.environment:
            process.__dict__["_procession_environment"] = self.environment
        try:
            process.start()
        finally:
            if relays is not None:
                relays.started(slot, getattr(process, "pid", None) or 0)
        self._in_slot[slot] = process
        self._empty.discard(slot)
        self._list_processes()
        try:
            sentinel = process.sentinel
        except (OSError, AttributeError):  # a sandbox without pidfds, or a program's own process class
            sentinel = -1
        self.engine.started(slot, getattr(process, "pid", None) or 0, sentinel)

    def _list_processes(self) -> None:
        in_slot = list(self._in_slot.items())  # at once: another thread may change it
        self.processes[:] = [process for _, process in sorted(in_slot)]

    def _run(self) -> None:
        while True:
            kind, what = self.engine.next_event()
            if kind == "ended":
                break
            try:
                if kind == "start":
                    self._started_again(what)
                elif kind == "exited":
                    self._exited(what)
                elif kind == "reports":
                    for key in what:
                        self.tell(key)
            except BaseException as error:
                # The pool ends, so that no thread waits for work that this thread cannot do.
                sys.excepthook(type(error), error, error.__traceback__)
                if kind == "exited":
                    self.engine.ended(what, None)
                self.engine.terminate()
        for process in self.processes:
            process.join()
        if self.relays is not None:
            self.relays.finish()
        # calls that are not done now will not be done
        for key in list(self.watched):
            self.tell(key)

    def _started_again(self, slot: int) -> None:
        try:
            self._start(slot)
        except Exception as error:
            self._refusal = error
            self.engine.start_failed(slot)

    def _exited(self, slot: int) -> None:
        process = self._in_slot[slot]
        process.join()
        if self.relays is not None:
            self.relays.ended(slot)
        popen = process._popen
        memory = popen is not None and popen._out_of_memory
        if self.engine.phase != "broken":  # the workers that end after that have not broken it
            self._last, self._refusal = process, None  # before a caller can ask what broke the pool
        self.engine.ended(slot, process.exitcode, memory)
        self._empty.add(slot)
        self.trim()

    def trim(self) -> None:
        """Forgets the workers that have ended and get no successor, since the pool has become smaller."""
        workers = self.engine.workers
        gone = [slot for slot in list(self._empty) if slot >= workers]
        for slot in gone:
            self._empty.discard(slot)
            self._in_slot.pop(slot, None)
        if gone:
            self._list_processes()

    @property
    def broken(self) -> BaseException | None:
        """The error that broke the pool; None if it is not broken."""
        if self.engine.phase != "broken":
            return None
        if self._refusal is not None or self._last is None:
            return self._refusal
        if self._why is None:
            self._why = what_ended(self._last)
        return self._why
