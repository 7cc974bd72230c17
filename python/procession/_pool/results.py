"""Results of a pool for calls that are in progress."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from ..context import TimeoutError
from .compat_results import (
    ApplyResult,
    MapNames,
    MapResult,
    ResultNames,
)
from .errors import error_of, mark_item, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from .backlog import Call, Chunks
    from .engine import Group, Task

    T = TypeVar("T")
    One = ApplyResult
    Many = MapResult
else:
    # type arguments are for type checkers alone: the bases are those without them
    T, One, Many = None, {None: ApplyResult}, {None: MapResult}

__all__ = ["OneResult", "ResultList", "call_as", "call_soon"]


class OneResult(ResultNames, One[T]):
    """The result of `apply_async`."""

    # Attributes that most results never set are attributes of the class.
    _callback: Callable[[Any], object] | None = None
    _error_callback: Callable[[BaseException], object] | None = None
    # (success, value or exception), when it is known
    _outcome: tuple[bool, Any] | None = None
    # set when the supervisor has called back; None if it does not call back
    _told: threading.Event | None = None

    # the entry in the backlog of the pool, if the call could not be sent at once
    _unsent: Call | Chunks | None = None

    _task: Task

    def __init__(self, pool: Any, function: Any) -> None:
        self._pool = pool
        self._function = function

    def __repr__(self) -> str:
        return f"{object.__repr__(self)[:-1]}: {name_of(self._function)}(), {self._progress()}>"

    def _progress(self) -> str:
        """Returns the progress in words, without waiting."""
        if not (self.ready() and self._wait(0)) or self._outcome is None:
            return "in progress"
        success, value = self._outcome
        return "done" if success else f"failed with {type(value).__name__}"

    @property
    def _lock(self) -> Any:
        """For rare operations: one lock is enough for all results of a pool."""
        return self._pool._seldom

    def ready(self) -> bool:
        """Returns whether there is a result or an error."""
        if self._outcome is not None:
            return self._told is None or self._told.is_set()
        return False if self._told is not None else self._settled()

    def successful(self) -> bool:
        """Returns whether the call has returned, and not raised. ValueError: it is still in progress."""
        if not self.ready():
            raise ValueError(f"{object.__repr__(self)} is not ready")
        self._wait(0)
        assert self._outcome is not None
        return self._outcome[0]

    def wait(self, timeout: float | None = None) -> None:
        """Waits until there is a result, at most `timeout` seconds; None: without limit."""
        self._wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """Waits for the result and returns it. It does not wait for a result that cannot come.

        Args:
            timeout: seconds; None: without limit.

        Raises:
            Exception: the exception of the call, whose cause is the traceback in the worker.
            procession.TimeoutError: the call was still in progress after that time.
            WorkerDiedError: its worker has died.
            TaskTimeoutError: it took longer than its own time limit.
            concurrent.futures.CancelledError: it was cancelled.
            PoolBrokenError: the pool was terminated or cannot start workers.
        """
        if self._outcome is None or self._told is not None:
            if not self._wait(timeout):
                raise TimeoutError
            assert self._outcome is not None
        success, value = self._outcome
        if success:
            result: T = value
            return result
        raise value

    def cancel(self) -> bool:
        """Gives the call up. If it waits, it will not run; if it runs, its worker is killed and replaced.

        Afterwards `get` raises `concurrent.futures.CancelledError`. Returns False if the call is done already.
        multiprocessing has no such method.
        """
        # a call that could not be sent has no task
        if self._outcome is not None:
            return False
        # withdrawing waits for a call that is being pickled, and pickling may fail
        return self._withdraw() or (self._outcome is None and self._task.cancel())

    def _withdraw(self) -> bool:
        """Gives up what was not sent yet. Returns whether there was something."""
        job = self._unsent
        if job is None or not self._pool._backlog.withdraw(job):
            return False
        from concurrent.futures import CancelledError

        job.fail(CancelledError())
        return True

    # --- for await ---

    def __await__(self) -> Generator[Any, None, T]:
        """Waits for the result in asyncio, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        self._when_done(lambda: call_soon(loop, done))
        try:
            yield from future
        except BaseException:
            self.cancel()  # the task that awaited it was cancelled
            raise
        return self.get()

    def _when_done(self, call: Callable[[], object]) -> None:
        """Calls call() when there is a result: now, or in the supervisor's thread."""
        with self._lock:
            if self._told is None and self._outcome is None:
                self._watch()
            pending = self._told is not None and not self._told.is_set()
            if pending:
                self._waiting.append(call)
        if not pending:
            call()

    _waiting: list[Callable[[], object]]

    def _watch(self) -> None:
        """Registers with the supervisor for the outcome. The caller holds the lock."""
        supervisor, task = self._pool._supervisor, self._task
        key = (False, task.id)
        with supervisor.lock:  # the supervisor looks into `watched` when it is released
            if task.report():
                # not before: another thread would wait for a call that does not come
                self._waiting, self._told = [], threading.Event()
                supervisor.watched[key] = self._tell
                return
        self._take()

    # --- from the engine ---

    def _settled(self) -> bool:
        return self._task.ready()

    def _wait(self, timeout: float | None) -> bool:
        if self._told is not None:
            return self._wait_until_told(timeout)
        if self._outcome is None:
            told = self._task.outcome(timeout)
            if told is not None:
                self._keep(told)
            elif not self._task.wait(0):
                return False
            else:
                with self._lock:  # another thread has taken the outcome and is about to store it
                    self._take()
        return True

    def _wait_until_told(self, timeout: float | None) -> bool:
        """Waits until the supervisor has called back."""
        assert self._told is not None
        if self._told.is_set():
            return True
        told: bool = self._pool._engine.wait_by(self._told.wait, (timeout,), timeout, *self._ids())
        return told

    def _ids(self) -> tuple[int, int]:
        """Returns the numbers of the task and of the group, for observers; 0: none."""
        task = getattr(self, "_task", None)  # a call that could not be sent yet has none
        return (0 if task is None else task.id), 0

    def _keep(self, told: tuple[bool, Any]) -> None:
        if told[0]:
            self._outcome = told
            return
        self._outcome = False, self._error(told[1])
        self._hush(told[1])

    def _hush(self, what: tuple[Any, ...]) -> None:
        """Drops the error callback of a call that `terminate` has given up. As in multiprocessing only waits get it."""
        if what[0] == "abandoned" and self._pool._supervisor.broken is None:
            self._error_callback = None

    def _not_sent(self, error: BaseException | None) -> None:
        """Stores that the call was given up before it was sent; None: because the pool has ended."""
        if error is None:
            self._keep((False, ("abandoned",)))
        else:
            self._outcome = False, error
        self._call_back()

    def _take(self) -> None:
        """Takes the outcome from the engine, unless another thread has taken it. The caller holds the lock."""
        if self._outcome is None:
            told = self._task.take()
            while told is None and self._outcome is None:
                time.sleep(0)  # another thread has taken the outcome and is about to store it
            if told is not None:
                self._keep(told)

    def _error(self, what: tuple[Any, ...]) -> BaseException:
        return error_of(what, name_of(self._function), None, self._pool._supervisor.broken)

    def _tell(self) -> None:
        """Calls back and wakes waiting threads, in the supervisor's thread."""
        with self._lock:
            self._take()
        self._call_back()

    def _call_back(self) -> None:
        assert self._outcome is not None
        success, value = self._outcome
        call = self._callback if success else self._error_callback
        try:
            if call is not None:
                call(value)
        finally:
            self._callback = self._error_callback = None
            with self._lock:
                assert self._told is not None
                self._told.set()
                waiting, self._waiting = self._waiting, []
            for wake in waiting:
                wake()


if TYPE_CHECKING:
    OneList = OneResult
else:
    OneList = {list[None]: OneResult}


class ResultList(MapNames, OneList[list[T]], Many[T]):
    """The result of `map_async` and `starmap_async`: a list."""

    _group: Group
    # number of items per task, if the caller has given it; number of tasks
    _chunk: int | None = None
    _tasks = 0

    # makes of the list of results what `get` returns; for the slices of a table
    _join: Callable[[list[Any]], Any] | None = None
    # whether no call was given up; for the progress bar
    _complete = True
    # whether the supervisor tells it of each outcome, also without callbacks
    _watches = False

    def __init__(
        self,
        pool: Any,
        function: Any,
        length: int,
        chunked: bool,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        bar: Any = None,
    ) -> None:
        OneResult.__init__(self, pool, function)
        # re-entrant: a thread that makes a pool of threads report its outcomes may be told at once
        self._gathering = threading.RLock()
        self._callback, self._error_callback = callback, error_callback
        self._values: list[Any] = [None] * length
        self._length = length
        self._chunked = chunked
        # the failure with the lowest index: (index, error)
        self._failure: tuple[int, BaseException] | None = None
        self._bar = bar
        # whether all of the input is submitted; whether a thread is calling back, or has
        self._whole = self._called = False
        if not length:
            self._finish()

    @property
    def _lock(self) -> Any:
        return self._gathering

    def cancel(self) -> bool:
        """Gives up all calls that are not done; see `ApplyResult.cancel`."""
        if self._outcome is not None:
            return False
        count = self._group.cancel()
        return self._withdraw() or count > 0

    def get(self, timeout: float | None = None) -> list[T]:
        """Returns the list of results; see `ApplyResult.get`. Ctrl-C gives up all calls that are not done."""
        try:
            return super().get(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    def _fail(self, index: int, error: BaseException, of_item: bool = True) -> None:
        """Stores a failure. of_item: it is that of an item, or of a task, and not of the whole call."""
        if not of_item:
            self._complete = False
        if self._failure is None or index < self._failure[0]:
            self._failure = index, error

    def _progress(self) -> str:
        said = super()._progress()
        return f"{said}, {self._number_left} tasks left" if said == "in progress" else said

    def _abandon(self, index: int = 0) -> None:
        """Stores that the pool was ended before the rest, from this item on, was sent."""
        what = ("abandoned",)
        self._hush(what)
        self._fail(index, error_of(what, name_of(self._function), index, self._pool._supervisor.broken), False)

    def _finish(self) -> None:
        if self._failure is not None:
            self._outcome = False, self._failure[1]
        elif self._join is None:
            self._outcome = True, self._values
        else:
            try:
                self._outcome = True, self._join(self._values)
            except Exception as error:  # for example arrays that do not fit together
                self._outcome = False, error
        self._values = []
        if self._bar is not None:
            self._bar.close(self._complete)

    def _settled(self) -> bool:
        return self._group.progress()[0] == 0

    def _look(self) -> None:
        """Takes the outcomes that are there, unless another thread is doing so."""
        if self._outcome is None and self._told is None and self._lock.acquire(blocking=False):
            try:
                self._gather(0)
            finally:
                self._lock.release()

    def _gather(self, timeout: float | None, since: float | None = None) -> bool:
        """Takes the outcomes that are there. Returns whether these were all. The caller holds the lock.

        `since`: when it began to wait for all of them, for observers.
        """
        if self._outcome is not None:
            return True
        gathered = self._group.gather(self._values, self._chunked, timeout, since)
        if gathered is None:
            return False
        left, failures, count = gathered
        for index, what in failures:
            self._hush(what)
            error = error_of(what, name_of(self._function), index, self._pool._supervisor.broken)
            of_item = what[0] not in ("cancelled", "abandoned")
            if of_item and not self._chunked:
                mark_item(error, index)
            self._fail(index, error, of_item)
            if of_item and self._chunk:
                count += min(self._chunk, self._length - index)
        if self._bar is not None:
            self._bar.update(count)
        if left == 0 and self._whole:
            self._finish()
        return self._outcome is not None

    def _reading(self, items: Any) -> Any:
        """Returns the input from which its tasks are made: an iterator, or what the group reads without one."""
        return items if type(items) in (list, range) and getattr(self._group, "SLICES", False) else iter(items)

    def _submitted(self) -> None:
        """Notes that all of the input is submitted. If all of it is done, there is no further outcome that tells it."""
        self._whole = True
        if self._told is not None:
            self._tell()

    def _wait(self, timeout: float | None) -> bool:
        if self._told is not None:
            return self._wait_until_told(timeout)
        if self._outcome is not None:
            return True
        began = time.monotonic()
        limit = None if timeout is None else began + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return self._outcome is not None
        try:
            while not self._gather(None if limit is None else max(0.0, limit - time.monotonic()), began):
                if limit is not None and time.monotonic() >= limit:
                    return False
            return True
        finally:
            self._lock.release()

    def _ids(self) -> tuple[int, int]:
        return 0, self._group.id

    def _watch(self) -> None:
        self._told, self._waiting = threading.Event(), []
        supervisor, group = self._pool._supervisor, self._group
        with supervisor.lock:
            supervisor.watched[True, group.id] = self._tell
        group.report()

    def _tell(self) -> None:
        with self._lock:
            # also if nothing is there: only a collection makes the engine report again
            self._gather(0)
            while self._outcome is None and self._group.progress()[1]:
                self._gather(0)
            if self._outcome is None and self._whole and self._group.progress() == (0, 0):
                self._finish()
            done = self._outcome is not None and not self._called
            self._called = self._called or done
        try:
            if self._bar is not None:
                self._bar.flush()
        finally:  # whatever the function for progress raises
            if done:
                self._pool._supervisor.forget((True, self._group.id))
                self._call_back()


def call_as(kind: type, twin: type) -> None:
    """Gives a class the name of its base class, by which programs know it."""
    kind.__name__, kind.__qualname__, kind.__module__ = twin.__name__, twin.__name__, "procession.pool"


call_as(OneResult, ApplyResult)
call_as(ResultList, MapResult)


def call_soon(loop: Any, function: Callable[..., object], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(function, *args)
