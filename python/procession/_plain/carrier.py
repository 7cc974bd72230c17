"""Carries the tasks of one place of a pool to its worker process, and replaces the worker when it dies.

Each worker has a pipe of its own, and shares no lock with others: so a worker that is killed, at any moment, takes
nothing along but the task that it runs. A message is a byte that says what it is, and a pickle.

| from the worker | |
|---|---|
| `Y` | it is ready: the initializer has returned |
| `F` | the initializer has raised: the parts of the exception |
| `B` | the call begins, if the task has a time limit |
| `V`, `R`, `U` | the value; the parts of the exception; the texts for a value that cannot be pickled |
| `L`, `X` | a log record; the result of `exit_function` |
| `P` | what a task reports of its progress |

The worker gets tasks: `T`, or `L` for one with a time limit. An empty message ends it in order, and `E` because the
pool was terminated.
"""

from __future__ import annotations

import pickle
import select
import time
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.process import BaseProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Any

    from .._pool.thread_engine import _Work
    from .engine import Job, ProcessEngine

__all__ = ["NOT_BEGUN", "Carrier", "poller"]

NOT_BEGUN = -1  # the shared number of a worker that has not begun its task: if it dies then, it has died idle

_LOOK = 0.5  # seconds after which a wait looks whether the process has ended: a grandchild may hold its pipe open
_GRACE = 0.3  # seconds that a worker has to end after SIGTERM
_TO_END = 5.0  # seconds for a worker that has closed its pipe
_MOST_UNSENT = 3  # workers that die while they get a task before one counts as having died with it

Outcome = tuple[bool, "Any"]


class Carrier:
    """The parent's side of a worker. Its thread calls all methods but `kill` and `ask_to_end`."""

    def __init__(self, engine: ProcessEngine, slot: int, begin: Callable[[int], Any], heard: Any, most: Any) -> None:
        """Prepares it; `start` starts the worker.

        Args:
            begin: begin(slot) starts a process, and returns it with a connection and the shared number of its item.
            heard: has the methods `said(kind, body)` and `ended(slot)`.
            most: number of tasks after which a worker is replaced; None: it is not.
        """
        self.engine = engine
        self.slot = slot
        self.work: _Work | None = None  # that is with the worker; the engine's condition guards it
        self.is_ready = False
        self._begin, self._heard, self._most = begin, heard, most
        self._process: BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._item: Any = None
        self._has_come: Callable[[float], object] = bool
        self._tasks = 0
        self._killed = False  # the worker was killed, and may not have ended yet
        self._ending = 0.0  # when it was asked to end

    @property
    def pid(self) -> int:
        process = self._process
        return (process.pid or 0) if process is not None else 0

    def start(self) -> None:
        """Starts the worker. Raises what the start of a process raises."""
        self.is_ready, self._killed, self._tasks = False, False, 0
        self._process, pipe, self._item = self._begin(self.slot)
        self._connection, self._has_come = pipe, poller(pipe)

    def kill(self) -> None:
        """Kills the worker. Any thread may call it."""
        process, self._killed = self._process, True
        if process is not None:
            _quietly(process.kill)

    def ask_to_end(self) -> None:
        """Sends SIGTERM to a worker that has a task. An idle one is ended by the carrier's thread. Any thread may call
        it."""
        process, self._ending = self._process, time.monotonic()
        if process is not None and (self.work is not None or not self.is_ready):
            _quietly(process.terminate)

    # --- a task ---

    def carry(self, work: _Work) -> Outcome | None:
        """Has a task run, and returns its outcome. None: another worker is to run it."""
        job: Job = work.call  # type: ignore[assignment]
        try:
            message = job.message()
        except Exception as error:
            return False, ("exception", error)
        unsent = 0
        while self.get_ready() and work.state == "running":
            assert self._connection is not None and self._process is not None
            self._item.value = NOT_BEGUN
            outcome: Outcome | None = None
            try:
                self._connection.send_bytes(message)
                outcome = self._outcome(job)
            except OSError:  # it has died idle
                pass
            if outcome is not None:
                return outcome
            pid = self.pid
            code = self._bury()
            unsent = unsent + 1 if self._item.value == NOT_BEGUN else _MOST_UNSENT
            if unsent >= _MOST_UNSENT:
                unsent = 0
                job.deaths += 1
                if job.deaths > job.retries:
                    return False, ("died", pid, code, max(0, self._item.value), job.deaths, False, 0.0)
            if self.slot >= self.engine.workers:  # the pool has become smaller
                return None
        return False, ("abandoned",)

    def _outcome(self, job: Job) -> Outcome | None:
        """Waits for the outcome of the task that the worker has. None: the worker has died."""
        limit: float | None = None
        while True:
            got = self._receive(limit)
            if got is None:
                return None
            kind, body = got
            if kind == b"B":
                limit = time.monotonic() + (job.timeout or 0.0)
            elif kind == b"":
                pid, item = self.pid, max(0, self._item.value)
                self.kill()
                code = self._bury()
                return False, ("timeout", pid, code, item, 1, False, job.timeout)
            elif kind == b"V":
                try:
                    return True, pickle.loads(body)
                except Exception as error:
                    return False, ("unreadable", error)
            else:
                return False, ("raised" if kind == b"R" else "unsendable", pickle.loads(body))

    def _receive(self, limit: float | None = None) -> tuple[bytes, bytes] | None:
        """Returns the next message about a task, or b"" at that time. None: the worker has ended."""
        process, pipe = self._process, self._connection
        assert process is not None and pipe is not None
        over = False
        while True:
            wait = 0.0 if over else _LOOK
            if limit is not None:
                wait = min(wait, max(0.0, limit - time.monotonic()))
            try:
                if not self._has_come(wait):
                    if over:
                        return None
                    if limit is not None and time.monotonic() >= limit:
                        return b"", b""
                    if self._ending and time.monotonic() > self._ending + _GRACE:
                        self.kill()
                    over = process.exitcode is not None
                    continue
                message = pipe.recv_bytes()
            except (EOFError, OSError):
                return None
            kind, body = message[:1], message[1:]
            if kind not in (b"X", b"L", b"P"):
                return kind, body
            self._heard.said(kind, body)

    # --- the worker ---

    def get_ready(self) -> bool:
        """Sees to it that there is a worker that waits for a task. False: the pool has ended."""
        while self.engine.phase in ("open", "closing"):
            if self._process is not None and (self._killed or self._process.exitcode is not None):
                self._bury()
            if self._process is None:
                self.engine.restarts[self.slot] = self.engine.restarts.get(self.slot, 0) + 1
                try:
                    self.start()
                except Exception as error:
                    self.engine.breaks(error)
                    return False
            if self.is_ready:
                return True
            self._hear_of_start()
        return False

    def _hear_of_start(self) -> None:
        from .._pool.errors import WorkerDiedError, error_of
        from .._start.exit_report import how

        got = self._receive()
        if got is not None and got[0] == b"Y":
            self.is_ready = True
            self.engine.worker_is_ready()
            return
        pid, error = self.pid, None
        if got is not None:
            error = error_of(("raised", pickle.loads(got[1])), "initializer", None, None)
        code = self._bury()
        if error is None:
            error = WorkerDiedError(f"worker {pid} {how(code or 0)} before it was ready", pid, code)
        self.engine.worker_has_failed(error, killed=got is None)

    def rest(self) -> None:
        """Called after each task. Replaces the worker if it has done as many as it may."""
        self._tasks += 1
        if self._most is not None and self._tasks >= self._most and self._process is not None:
            self._dismiss()
            self.get_ready()

    def finish(self, in_order: bool) -> None:
        """Ends the worker. in_order: it calls `exit_function`."""
        if self._process is not None:
            if not self._killed:
                self._dismiss(b"" if in_order else b"E")
            else:
                self._bury()

    def _dismiss(self, message: bytes = b"") -> None:
        """Tells the worker that there are no more tasks, and waits for its end."""
        assert self._connection is not None
        _quietly(self._connection.send_bytes, message)
        while self._receive() is not None:
            pass
        self._bury()

    def _bury(self) -> int | None:
        """Forgets a worker that has ended or is about to end, and returns its exit code."""
        process, pipe = self._process, self._connection
        assert process is not None and pipe is not None
        self.is_ready = False
        process.join(_TO_END)
        if process.exitcode is None:  # it has closed its pipe, and goes on
            process.kill()
            process.join()
        pipe.close()
        self._process = self._connection = None
        self._heard.ended(self.slot)
        return process.exitcode


def poller(pipe: Connection[Any, Any]) -> Callable[[float], object]:
    """Returns what waits for a message, for some seconds, as `pipe.poll` does. That makes a selector for each wait,
    which takes longer than the message."""
    if not hasattr(select, "poll"):  # on Windows
        return pipe.poll
    waits = select.poll()
    waits.register(pipe.fileno(), select.POLLIN)

    def poll(seconds: float) -> object:
        return waits.poll(max(0.0, seconds) * 1000)

    return poll


def _quietly(call: Callable[..., object], *args: object) -> None:
    """Calls a function of a process or pipe that may have ended."""
    with suppress(OSError, ValueError, AttributeError):
        call(*args)


assert connection  # importing it makes connections picklable
