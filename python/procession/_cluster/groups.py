"""Tasks and groups of tasks of a cluster: the classes `Task` and `Group` of the interface of an engine."""

from __future__ import annotations

import threading

from .._pool.errors import name_of
from .._pool.thread_engine import ThreadGroup, ThreadTask, read_part
from . import pickling
from .frames import size, writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from typing import Any

    from .engine import ClusterEngine

__all__ = ["ClusterGroup", "ClusterTask", "Definition", "Work"]

_BIG = 1 << 20  # bytes of a task from which there are to be fewer and longer ones
_BIG_ITEM = 1 << 12
_BATCH = 16  # tasks that are handed over together


class Definition:
    """What the tasks of a function have in common. Whether one is run again is decided here, and not on a node."""

    __slots__ = ("data", "key", "starred", "timeout")

    def __init__(self, key: int, data: bytes, starred: bool, timeout: float | None) -> None:
        self.key = key
        self.data = data
        self.starred = starred
        self.timeout = timeout


class Work:
    """One task, until it is done. The engine for threads has a class of the same use."""

    __slots__ = (
        "bytes",
        "deaths",
        "definition",
        "is_item",
        "job",
        "many",
        "number",
        "owner",
        "parts",
        "sent_at",
        "state",
    )

    def __init__(
        self, owner: ClusterTask | ClusterGroup, definition: Definition, number: int, many: bool, parts: list[Any]
    ) -> None:
        """number: the index of its first item. many: whether its result is a list. parts: its pickle and buffers."""
        self.owner = owner
        self.definition = definition
        self.number = number
        self.many = many
        self.parts = parts
        self.is_item = isinstance(owner, ClusterGroup)
        self.bytes = size(parts)
        self.job = owner.id
        self.deaths = 0  # number of nodes and workers that died with it, and after which it was run again
        self.sent_at = 0.0
        self.state = "waiting"  # then "sent", "done"; or "withdrawn"

    @property
    def index(self) -> int | None:
        """The index of its first item, for errors."""
        return self.number if self.is_item else None

    def done(self, success: bool, value: Any) -> None:
        """Gives the outcome to the task or group."""
        self.owner._done_with(self, success, value)

    def again(self) -> bool:
        """Notes that a node or a worker has died with the task. Returns whether it may be run again."""
        if self.deaths >= self.owner.retries:
            return False
        self.deaths += 1
        return True


class ClusterTask(ThreadTask):
    """One call."""

    _engine: ClusterEngine

    def __init__(
        self,
        engine: ClusterEngine,
        function: Any,
        parts: list[Any],
        data: bytes,
        timeout: float | None,
        retries: int,
        report: bool,
    ) -> None:
        self.id = next(engine.numbers)
        self.name = name_of(function)
        self.retries = retries
        self._engine = engine
        self._outcome = None
        self._report = report
        self._ended = False
        definition = Definition(self.id, data, False, timeout)
        self._work = Work(self, definition, 0, False, parts)  # type: ignore[assignment]

    def _done_with(self, work: Work, success: bool, value: Any) -> None:
        self._done(success, value)

    def take(self) -> tuple[bool, Any] | None:
        outcome = self._outcome
        if outcome is not None and outcome[0]:
            # read before it is taken: a signal handler may raise meanwhile, and then it must still be there
            read = _read(outcome[1])
            return None if super().take() is None else read
        return super().take()

    def cancel(self, kill: bool = True) -> bool:
        return self._engine.give_up(self._work, kill)  # type: ignore[arg-type]

    def running(self) -> bool:
        return self._work.state == "sent"


class ClusterGroup(ThreadGroup):
    """Many calls of one function."""

    _engine: ClusterEngine
    _pending: dict[int, Work]  # type: ignore[assignment]

    def __init__(
        self,
        engine: ClusterEngine,
        function: Callable[..., Any],
        starred: bool,
        timeout: float | None,
        retries: int,
        report: bool,
    ) -> None:
        super().__init__(engine, function, starred, report)
        self.name = name_of(function)
        self.retries = retries
        self._definition = Definition(next(engine.numbers), pickling.dumps_whole(function), starred, timeout)
        self.big = False

    def feed(
        self, iterator: Iterator[Any], items: int, chunk: int = 1, first: int = 0, listed: bool = False
    ) -> tuple[int, int, bool, tuple[BaseException, int] | None]:
        read = tasks = 0
        ended = big = False
        error = None
        batch: list[Work] = []
        table = pickling.reducers()
        while read < items and not ended and error is None and not big and self._engine.has_room():
            part, ended, error = read_part(iterator, min(chunk, items - read))
            if not part:
                break
            try:
                pickled, buffers = pickling.dumps(part, table)
            except Exception as raised:
                error = raised, len(part)
                break
            work = Work(
                self, self._definition, first + read, listed or chunk > 1, [pickled, *self._engine.seen.marked(buffers)]
            )
            big = work.bytes > _BIG and work.bytes > _BIG_ITEM * len(part)
            self.big = self.big or big
            read += len(part)
            tasks += 1
            batch.append(work)
            if len(batch) == _BATCH:
                self._hand_over(batch)
                batch = []
        self._hand_over(batch)
        return read, tasks, ended, error

    def _hand_over(self, batch: list[Work]) -> None:
        with self._engine.condition:
            for work in batch:
                self._pending[work.number] = work
        self._engine.put_all(batch)

    def _done_with(self, work: Work, success: bool, value: Any) -> None:
        with self._engine.condition:
            if self._pending.pop(work.number, None) is None:
                return
            if not self._forgotten:
                self._finished.append((work.number, success, value))
            self._engine.condition.notify_all()
            report = self._report
            self._tidy()
        if report:
            self._engine.tell((True, self.id))

    def _tidy(self) -> None:
        """Lets the nodes forget the function when there are no more tasks. The caller holds the condition."""
        if not self._pending and not self._feeding:
            self._engine.forget(self._definition.key)

    def feeding(self, on: bool) -> None:
        super().feeding(on)
        with self._engine.condition:
            self._tidy()

    def collect(self, most: int, timeout: float | None = None) -> tuple[int, list[tuple[int, bool, Any]]] | None:
        collected = super().collect(most, timeout)
        if collected is None:
            return None
        left, found = collected
        return left, [_outcome(number, success, value) for number, success, value in found]

    def collect_into(
        self, into: deque[tuple[int, bool, Any]], timeout: float | None = None, since: float | None = None
    ) -> bool:
        with self._engine.condition:
            if not self._some() and not self._engine.condition.wait_for(self._some, timeout):
                return False
            self._news = False
            count = len(self._finished)
        # Unpickled without the lock. An outcome leaves the list after it was stored, as a signal handler may raise.
        for _ in range(count):
            number, success, value = self._finished[0]
            into.append(_outcome(number, success, value))
            self._finished.popleft()
        return True

    def cancel(self, kill: bool = True) -> int:
        with self._engine.condition:
            return self._engine.give_up_all(list(self._pending.values()), kill)


def _outcome(number: int, success: bool, value: Any) -> tuple[int, bool, Any]:
    return (number, *_read(value)) if success else (number, success, value)


def _read(parts: list[Any]) -> tuple[bool, Any]:
    """Unpickles a result, in the thread that fetches it."""
    pickled, *buffers = parts
    try:
        return True, pickling.loads(pickled, buffers=writable(buffers))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # most likely it is Ctrl-C
        return False, ("unreadable", error)
