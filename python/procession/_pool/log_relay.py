"""Log records of workers go to the handlers of the parent (`logs=True`).

A worker puts each record into a queue in family memory before the logging call returns, so a worker that is killed
loses no record that it has logged. One thread of the parent takes them out and handles each as if it had been logged
there by the logger of the same name.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import BaseContext

    # level, propagate, disabled
    State = tuple[int, bool, bool]

__all__ = ["LogRelay", "LogSource"]

_MOST_BYTES = 64 << 20  # of records that wait for the parent; a worker that logs more waits
_PLAIN = frozenset((str, int, float, bool, type(None), bytes))


class LogRelay:
    """The side of the parent."""

    def __init__(self, context: BaseContext) -> None:
        self._queue = context.Queue(maxbytes=_MOST_BYTES)
        self._thread: threading.Thread | None = None
        self.source = LogSource(self._queue, *_states())

    def begin(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="LogRelay", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until all records are handled. There are no more workers."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        while (attributes := self._queue.get()) is not None:
            with suppress(Exception):  # a handler or a filter of the program fails
                record = logging.makeLogRecord(attributes)
                logging.getLogger(record.name).handle(record)


def _states() -> tuple[int, dict[str, State]]:
    """Returns the level that is disabled in this process, and the states of its loggers."""
    root = logging.getLogger()
    states = {"": (root.level, True, root.disabled)}
    for name, logger in list(root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):
            states[name] = logger.level, logger.propagate, logger.disabled
    return root.manager.disable, states


class LogSource:
    """What a worker gets."""

    def __init__(self, queue: Any, disabled: int, states: dict[str, State]) -> None:
        self._queue = queue
        self._disabled = disabled
        self._states = states

    def install(self) -> None:
        """Makes all loggers of this process send their records, with the levels that the parent had."""
        sender = _Sender(self._queue)
        root = logging.getLogger()
        root.manager.disable = self._disabled
        ours = [name for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
        for name in {"", *ours, *self._states}:
            logger = logging.getLogger(name)
            level, propagate, disabled = self._states.get(name, (logging.NOTSET, True, False))
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            # those of a forked worker are the parent's, which handles the record itself
            logger.handlers = [sender] if logger is root or not propagate else []


class _Sender(logging.Handler):
    """Puts records into the queue."""

    def __init__(self, queue: Any) -> None:
        super().__init__()
        self._queue = queue

    def emit(self, record: logging.LogRecord) -> None:
        try:
            attributes = self._attributes(record)
            try:
                self._queue.put(attributes)
            except Exception:  # an attribute that the program has added cannot be sent
                self._queue.put({key: _as_plain(value) for key, value in attributes.items()})
        except Exception:
            self.handleError(record)

    def _attributes(self, record: logging.LogRecord) -> dict[str, Any]:
        """Returns what is sent of a record. Its text is made here: its arguments may be objects of any kind."""
        attributes = record.__dict__.copy()
        attributes["msg"], attributes["args"] = record.getMessage(), None
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            attributes["exc_text"] = logging.Formatter().formatException(record.exc_info)
        attributes["exc_info"] = None
        if record.process == os.getpid():  # not one that a worker of this worker has sent
            from .. import process
            from .worker import worker_id

            attributes["processName"] = process.current_process().name
            attributes.setdefault("worker", worker_id())
        return attributes


def _as_plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"
