"""What workers and processes say to their parent: log records, output, results at their end.

Log records and results of a worker come through the pipe on which it gets its tasks, as no lock guards that. The
carrier of the worker passes them on.
"""

from __future__ import annotations

import logging
import pickle
import queue
import sys
import threading
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from weakref import WeakValueDictionary

from .._pool.exits import ExitResults
from .._pool.log_relay import LogRelay, _states
from .._pool.process_relays import ProcessRelays
from .._pool.progress import _TaskBars
from .._pool.relays import OfWorkers
from . import worker
from .errors import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


__all__ = ["Relays", "RelaysOfProcess"]


# the bars of tasks, by the numbers that their workers know
_bars: WeakValueDictionary[int, _TaskBars] = WeakValueDictionary()


def _reduce_bars(bars: _TaskBars) -> tuple[Any, ...]:
    _bars[id(bars)] = bars
    return worker.reports_to, (id(bars),)


ForkingPickler.register(_TaskBars, _reduce_bars)


class _Local:
    """Stands for a context where results need no queue between processes."""

    SimpleQueue: Any = staticmethod(queue.SimpleQueue)


class Relays(OfWorkers):
    """The relays of a pool."""

    def __init__(self, more: dict[str, Any]) -> None:
        """more: as `OfPool.for_workers` returns it, or empty."""
        super().__init__(more)
        self._finished = False
        if (function := more.get("exit_function")) is not None:
            self.exits = ExitResults(_Local, function)  # type: ignore[arg-type]
        if self._more.pop("logs", False):
            self._more["logs"] = _states()
        if (show := self._more.pop("output", None)) is not None:
            if sys.platform == "win32":
                raise refusal("output=", "logs=True")
            from .._pool.output_relay import OutputRelay

            self._output = OutputRelay(None if show == "forward" else show)

    def said(self, kind: bytes, body: bytes) -> None:
        """Handles a message of a worker; `carrier` lists their kinds."""
        with suppress(Exception):  # a handler or a filter of the program fails
            if kind == b"X" and self.exits is not None:
                self.exits._queue.put(pickle.loads(body))
            elif kind == b"L":
                record = logging.makeLogRecord(pickle.loads(body))
                logging.getLogger(record.name).handle(record)
            elif kind == b"P":
                number, report = pickle.loads(body)
                if (bars := _bars.get(number)) is not None:
                    bars.put(report)

    def begin(self) -> None:
        """Called when the first workers were started: a thread would be copied by a fork."""
        if self._output is not None:
            self._output.begin()

    def finish(self) -> None:
        """Called when all workers have ended. Returns when all lines were passed on."""
        if self._output is not None and not self._finished:
            self._finished = True
            self._output.finish()


class _OneWay:
    """A queue from one process to its parent, which is a pipe: a killed process holds no lock of it."""

    def __init__(self) -> None:
        self._reader, self._writer = connection.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._over = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _sending, (self._writer,)

    def put(self, record: Any) -> None:
        """Sends a record. None, in the parent, is the end."""
        if record is None:
            self._over = True
            return
        with self._lock:
            self._writer.send(record)

    def get(self) -> Any:
        """Returns the next record; None if the process has ended and all have come."""
        while not self._reader.poll(0.0 if self._over else 0.05):
            if self._over:
                return None
        return self._reader.recv()


def _sending(writer: Any) -> _OneWay:
    made = _OneWay.__new__(_OneWay)
    made._writer, made._lock = writer, threading.Lock()
    return made


class _Pipes:
    """Stands for a context whose queues are such pipes."""

    @staticmethod
    def Queue(maxbytes: int = 0) -> _OneWay:
        return _OneWay()


class RelaysOfProcess(ProcessRelays):
    """The relays of a single process."""

    def prepare(self, process_obj: Any) -> None:
        wanted, self._logs_wanted = self._logs_wanted, False
        super().prepare(process_obj)
        if wanted:
            self._logs = LogRelay(_Pipes)  # type: ignore[arg-type]
            self._sources.append(self._logs.source)
