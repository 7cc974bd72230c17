"""The base class of the objects of a cluster, as a process has them: a number of the hub, and how to call it."""

from __future__ import annotations

import builtins
import sys
import time
from _thread import _local, start_new_thread
from contextlib import contextmanager

from ..._errors import OwnerDiedError
from . import call as calls
from .local_class import local_class
from .wire import HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .call import Here, Undo

__all__ = ["CANCELLED", "Handle", "collecting", "deadline_of"]

CANCELLED: Any = type("Cancelled", (), {"__bool__": lambda self: False, "__repr__": lambda self: "CANCELLED"})()


def deadline_of(timeout: float | None) -> float | None:
    """Returns the time of `time.monotonic()` at which a timeout has passed; None: without limit."""
    return None if timeout is None else time.monotonic() + max(0.0, timeout)


_thread = _local()  # collected: the numbers of objects whose handles this thread pickles or unpickles


@contextmanager
def collecting(into: list[int]) -> Iterator[None]:
    """Collects the numbers of objects whose handles are pickled or unpickled. The caller tells the hub of them, at the
    moment that its message needs."""
    before = getattr(_thread, "collected", None)
    _thread.collected = into
    try:
        yield
    finally:
        _thread.collected = before


class Handle:
    """An object of a cluster. It can be pickled at any time and for any process of that cluster."""

    name: str | None
    _here: Here
    _number = 0  # of the object in the hub; 0: there is none
    _context: object = None  # that of the client, which is closed when nothing refers to it

    if not TYPE_CHECKING:

        @property
        def __class__(self):
            return local_class(type(self), "synchronize", False)

    def _make(self, here: Here, kind: str, name: str | None, *args: Any) -> None:
        """Makes the object in the hub. Raises what its class in the hub raises for these arguments."""
        self._here = here
        self._context = here.context()
        self.name = name
        answer = here.channel().ask(0, "make", [kind, _safe(name), *args], undo=_unmade)
        if answer[0] != "ok":
            self._result(answer)
        self._number = answer[1]
        calls._handles.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self),), self.__getstate__()

    def __getstate__(self) -> Any:
        collected = getattr(_thread, "collected", None)
        if collected is None:
            self._here.tell_sent(self._number)
        else:
            collected.append(self._number)
        return self._here.cluster, self._here.address, self._number, self.name

    def __setstate__(self, state: Any) -> None:
        cluster, address, number, self.name = state
        self._here = here = calls.here(cluster, address)
        self._context = here.context()
        calls._handles.add(self)
        collected = getattr(_thread, "collected", None)
        # Without a call in between, at which a signal handler may raise: `__del__` tells of what was told here.
        if collected is None:
            pending = here.pending
            pending += (["held", number],)
        else:
            collected += (number,)
        self._number = number
        if collected is None:
            here.tell_pending()

    def __del__(self, _ends: Callable[[], bool] = sys.is_finalizing) -> None:
        number = self._number
        if number:
            self._number = 0
            self._here.pending.append(["dropped", number])
            if not _ends():
                self._here.tell_pending()

    @property
    def handle(self) -> bytes:
        """Names the object in its cluster."""
        return self._number.to_bytes(8, "little")

    def _call(
        self,
        op: str,
        *args: Any,
        deadline: float | None = None,
        undo: Undo | None = None,
        patient: bool = False,
        before: bytes = b"",
    ) -> Any:
        """Asks the hub, waits for the answer, and returns the result.

        Args:
            deadline: a time of `time.monotonic()`, from which on the request is cancelled; None: without limit.
            undo: for a call that was interrupted: returns what is to be sent to give back what the answer grants, a
                pair (op, arguments), or None.
            patient: whether a further interrupt does not end the wait for the answer.
            before: frames that are sent together with the request.

        Returns `CANCELLED` if the request was cancelled before it had an effect.

        Raises:
            ConnectionError: the scheduler or the relay has gone, or nothing has kept the object.
        """
        answer = self._here.channel().ask(self._number, op, list(args), deadline, undo, patient, HUB, before)
        # From here on no signal handler runs, if the caller calls no function either: a handler that raises would take
        # the result away from the program.
        if answer[0] == "ok":
            return answer[1]
        return self._result(answer)

    def _surely(self, op: str, *args: Any) -> Any:
        """As `_call`, for what needs no wait: it is done also if a signal handler raises meanwhile."""
        here, asked, channel = self._here, [*args], None
        try:
            channel = here.channel()
            answer = channel.ask(self._number, op, asked)
            if answer[0] == "ok":
                return answer[1]
        except BaseException:
            if channel is None or channel.last is not asked:  # it was not begun
                try:
                    channel = None
                    channel = here.channel()
                    channel.ask(self._number, op, asked)
                except BaseException:
                    if channel is None or channel.last is not asked:
                        start_new_thread(here.ask_for, (here.thread(), self._number, op, asked))
                    raise
            raise
        return self._result(answer)

    async def _call_async(
        self,
        op: str,
        *args: Any,
        timeout: float | None = None,
        undo: Undo | None = None,
        patient: bool = False,
        before: bytes = b"",
    ) -> Any:
        """As `_call`, for an event loop. patient: a task that is cancelled waits for the answer."""
        from .call_async import ask

        answer = await ask(self._here, self._number, op, list(args), timeout, undo, patient, before)
        if answer[0] == "ok":  # as in `_call`
            return answer[1]
        return self._result(answer)

    def _result(self, answer: Any) -> Any:
        """Returns the value of an answer, or raises the error that it tells of."""
        kind = answer[0]
        if kind == "ok":
            return answer[1]
        if kind == "cancelled":
            return CANCELLED
        return self._fail(*answer)

    def _fail(self, kind: str, *details: Any) -> Any:
        """Raises the error of an answer."""
        if kind == "error":
            error = getattr(builtins, details[0], RuntimeError)
            raise error(details[1])
        if kind == "died":
            raise died(self.name, *details[:4])
        if kind == "gone":
            raise ConnectionError("the object does not exist any more: all processes that had it have ended")
        raise ConnectionError(details[0])


def _unmade(answer: Any) -> Any:
    return ("refer", [["dropped", answer[1]]]) if answer[0] == "ok" else None


def _unpickled(kind: type[Handle]) -> Handle:
    return kind.__new__(kind)


def _safe(text: str | None) -> Any:
    return text if text is None else str(text).encode("utf-8", "backslashreplace").decode()


def died(name: str | None, pid: int, process: str, node: str, code: int | None) -> OwnerDiedError:
    """Returns the error for a lock whose holder has died."""
    from ..._start.exit_report import how

    called = "this lock" if name is None else f"the lock {name}"
    text = (
        f"the process that last acquired {called}, {process} (pid {pid} on {node}), "
        f"{'died' if code is None else how(code, False)} without releasing it; the lock is free again, what it guards"
        " may be half done"
    )
    return OwnerDiedError(text, pid, process, code)
