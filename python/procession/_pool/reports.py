"""What tasks report of their own progress, and the function that workers call so that these reports are heard."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from contextvars import ContextVar

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # the task, what is done, what is to be done, a text; two None: the task has ended
    Report = tuple[tuple[int, int], float | None, float | None, str | None]

__all__ = ["Reporting", "report_progress"]

_EVERY = 0.05  # seconds between two reports of a task, at least

_task: ContextVar[_Task | None] = ContextVar("procession task", default=None)


def report_progress(done: float, total: float | None, text: str | None = None) -> None:
    """Moves a progress bar of the task that calls it.

    The commands `procession top` and `procession progress` show the bar, in any task of a pool of processes. If its
    `map` or `imap` was called with `progress=True` or with options of tqdm, the bar is also next to the bar of that
    call; there, reports that follow each other within 50 ms are left out, other than the last one. It does nothing
    outside of a pool and in a pool over a cluster, and in a `ThreadPool` it moves only the bar of the call. A task
    that has ended, or whose worker has died, has no bar. multiprocessing has no such function.

    Args:
        done: how much is done.
        total: how much there is to do; None: unknown.
        text: for the left side of the bar; None: the process id of the worker. The commands show its first 32 bytes.
    """
    _core._report_progress(done, total, text)
    task = _task.get()
    if task is not None:
        task.report(done, total, text)


class _Task:
    """The call that is running."""

    __slots__ = ("_key", "_next", "_reported", "_send")

    def __init__(self, send: Callable[[Report], object]) -> None:
        self._send = send
        self._key = os.getpid(), id(self)
        self._next = 0.0
        self._reported = False

    def report(self, done: float, total: float | None, text: str | None) -> None:
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + _EVERY
        self._reported = True
        with suppress(Exception):  # a bar that does not move must not make the task fail
            self._send((self._key, done, total, None if text is None else str(text)))

    def end(self) -> None:
        if self._reported:
            with suppress(Exception):
                self._send((self._key, None, None, None))


class Reporting:
    """Calls a function whose reports are sent."""

    def __init__(self, func: Callable[..., Any], listener: Any) -> None:
        """listener: has `put`: a queue, or in threads the bars themselves."""
        self.func = func  # `errors.name_of` finds the name of the function by this attribute
        self.listener = listener

    def __reduce__(self) -> tuple[Any, ...]:
        return Reporting, (self.func, self.listener)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        task = _Task(self.listener.put)
        token = _task.set(task)
        try:
            return self.func(*args, **keywords)
        finally:
            _task.reset(token)
            task.end()
