"""A worker of a pool without the extension, in its own process. `carrier` describes the messages."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.process import parent_process
from typing import NoReturn

from .._pool import worker
from .._pool.worker import described, unsendable
from . import reductions
from .carrier import poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["Told", "main"]

_LOOK = (
    2.0  # seconds after which an idle worker looks whether its parent lives: a forked sibling may hold its pipe open
)


class Told:
    """What a worker is told at its start: its initializer and its options. It is pickled by value where need be."""

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: Iterable[Any], more: dict[str, Any]
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        self.more = more

    def __reduce__(self) -> tuple[Any, ...]:
        return _told, (reductions.dumps((self.initializer, self.initargs, self.more)),)


_link: _Link | None = None


def reports_to(number: int) -> Any:
    """Returns what a task puts its reports into. number: which bars of the parent show them."""
    assert _link is not None
    return _Sends(_link, b"P", number)


def _told(pickled: bytes) -> Told:
    return Told(*pickle.loads(pickled))


class _Link:
    """The worker's end of its pipe."""

    def __init__(self, pipe: Any, parent: int) -> None:
        self._pipe = pipe
        self._has_come = poller(pipe)
        self._parent = parent
        self._forked = os.getppid() == parent and sys.platform != "win32"
        self._pid = os.getpid()
        self._lock = threading.Lock()  # log records may come from several threads

    def send(self, message: bytes) -> None:
        """Sends a message, unless this is a process that the worker has forked."""
        if os.getpid() == self._pid:
            with self._lock:
                self._pipe.send_bytes(message)

    def next(self) -> bytes | None:
        """Waits for the next message. None: the parent has gone."""
        while True:
            try:
                if self._has_come(_LOOK):
                    message: bytes = self._pipe.recv_bytes()
                    return message
            except (EOFError, OSError):
                return None
            if self._is_orphan():
                return None

    def _is_orphan(self) -> bool:
        if self._forked:
            return os.getppid() != self._parent
        parent = parent_process()
        return parent is not None and not parent.is_alive()


class _Sends:
    """Has the method `put` of a queue, and sends what it gets as a message of one kind."""

    def __init__(self, link: _Link, kind: bytes, number: int | None = None) -> None:
        self._link = link
        self._kind = kind
        self._number = number

    def put(self, obj: Any) -> None:
        self._link.send(self._kind + reductions.dumps(obj if self._number is None else (self._number, obj)))


class _Interrupts:
    """The handler of SIGINT: Ctrl-C ends the call that runs, and an idle worker ignores it."""

    def __init__(self) -> None:
        self.runs = False
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if handler in (signal.default_int_handler, signal.SIG_DFL):
                signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: object) -> None:
        if self.runs:
            raise KeyboardInterrupt


def main(pipe: Any, slot: int, item: Any, parent: int, told: Told) -> None:
    """Runs a worker: its initializer, then one task after the other.

    Args:
        pipe: its end of the pipe.
        slot: its number in the pool.
        item: a shared number, where it writes which item of its task it runs.
        parent: the process id of the process that has started it.
        told: its initializer and its options.
    """
    worker._here, worker._state = (os.getpid(), slot), {}
    worker.threads.clear()
    worker._write_lines_at_once()
    global _link  # noqa: PLW0603 (of this process)
    link = _link = _Link(pipe, parent)
    interrupts = _Interrupts()
    more = _options(told.more, link)
    if more:
        from .._pool.worker_setup import prepare

        prepare(more)
    if told.initializer is not None:
        try:
            told.initializer(*told.initargs)
        except Exception as error:
            _end_badly(link, error)
    link.send(b"Y")
    while (message := link.next()) not in (b"", b"E", None):
        _run(link, message, item, interrupts)
    if more:
        from .._pool.worker_setup import finish

        finish(more, message == b"")


def _options(more: dict[str, Any], link: _Link) -> dict[str, Any]:
    """Returns the options as `worker_setup` takes them."""
    made = dict(more)
    if (states := made.get("logs")) is not None:
        from .._pool.log_relay import LogSource

        made["logs"] = LogSource(_Sends(link, b"L"), *states)
    if (function := made.get("exit_function")) is not None:
        from .._pool.exits import ExitCall

        made["exit_function"] = ExitCall(function, _Sends(link, b"X"))
    return made


def _end_badly(link: _Link, error: Exception) -> NoReturn:
    """Tells why the worker ends. The parent reports it once; otherwise each worker would print it."""
    link.send(b"F" + pickle.dumps(described(error, None)))
    raise SystemExit(1) from None


def _run(link: _Link, message: Any, item: Any, interrupts: _Interrupts) -> None:
    """Runs a task and sends its outcome. SystemExit ends the worker, as in its own process."""
    value: Any
    items: list[Any] = []
    number = -1
    try:
        item.value = 0
        task = pickle.loads(memoryview(message)[1:])
        if message[:1] == b"L":
            link.send(b"B")
        interrupts.runs = True
        if task[0] == "call":
            _, function, args, keywords = task
            value = function(*args, **keywords)
        else:
            _, function, items, starred, many = task
            values = []
            for number, one in enumerate(items):
                item.value = number
                values.append(function(*one) if starred else function(one))
            value = values if many else values[0]
        interrupts.runs = False
    except SystemExit:
        raise
    except BaseException as error:
        interrupts.runs = False
        place = (number, items[number]) if number >= 0 else None
        link.send(b"R" + pickle.dumps(described(error, place)))
        return
    try:
        sent = reductions._plainly(value)
    except Exception as error:
        link.send(b"U" + pickle.dumps(unsendable(error, value)))
    else:
        link.send(b"V" + sent)
