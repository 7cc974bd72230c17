"""Output of workers goes to the parent line by line (`output=`).

Standard output and standard error of each worker are a pipe each, so lines of different workers cannot mix, and output
of code in C comes as well. One thread of the parent reads all pipes. What a worker has written before it is killed
stays in the pipe and is read.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
from contextlib import suppress
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["OutputRelay", "OutputSource", "WorkerOutput", "print_line"]

_PIECE = 1 << 16
_LONGEST_LINE = 1 << 20  # a longer line is passed on in parts


class WorkerOutput(NamedTuple):
    """From which worker a line comes."""

    worker: int
    """The number of the worker; see `worker_id`."""
    pid: int
    """Its process id."""
    stream: str
    """"stdout" or "stderr"."""


class OutputRelay:
    """The side of the parent."""

    def __init__(self, show: Callable[[str, WorkerOutput], object] | None) -> None:
        """show: is called with each line; None: lines are printed."""
        self._show = _printed if show is None else show
        self._lock = threading.Lock()  # guards the two below
        self._new: list[_Pipe] = []
        self._gone: list[_Pipe] = []
        self._pipes: dict[int, list[_Pipe]] = {}  # of the worker in each slot
        self._over = False
        self._bell, self._ringer = os.pipe()
        os.set_blocking(self._ringer, False)
        self._thread: threading.Thread | None = None

    def source(self, slot: int) -> OutputSource:
        """Makes the pipes of a worker that is about to start. Returns what it gets."""
        pipes, ends = [], []
        for stream in ("stdout", "stderr"):
            reader, writer = os.pipe()
            os.set_blocking(reader, False)
            pipes.append(_Pipe(reader, slot, stream))
            ends.append(writer)
        self._pipes[slot] = pipes
        return OutputSource(ends)

    def started(self, slot: int, pid: int, source: OutputSource) -> None:
        """Called when the worker was started, and with pid 0 if that has failed."""
        source.close()
        with self._lock:
            for pipe in self._pipes[slot]:
                pipe.pid = pid
                self._new.append(pipe)
                if not pid:
                    self._gone.append(pipe)
        self._ring()

    def ended(self, slot: int) -> None:
        """Called when the worker has ended. Another process that it has started may still have its pipes."""
        with self._lock:
            self._gone += self._pipes.pop(slot, [])
        self._ring()

    def forget(self) -> None:
        """Closes the copies that a forked child has of the ends of its parent."""
        for fd in (self._bell, self._ringer, *(pipe.fd for pipes in self._pipes.values() for pipe in pipes)):
            os.close(fd)

    def begin(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="OutputRelay", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Waits until all lines were passed on. There are no more workers."""
        for slot in list(self._pipes):
            self.ended(slot)
        self._over = True
        self._ring()
        if self._thread is None:  # no worker could be started
            self._run()
        elif self._thread is threading.current_thread():
            return
        else:
            self._thread.join()
        os.close(self._ringer)

    def _ring(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):  # it has not heard the bell yet, or has ended
            os.write(self._ringer, b"!")

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._over:
                self._serve(selector, selector.select())
            self._serve(selector, [])
        os.close(self._bell)

    def _serve(self, selector: selectors.BaseSelector, ready: list[Any]) -> None:
        for key, _ in ready:
            if key.data is None:
                os.read(self._bell, _PIECE)
            elif self._read(key.data):
                self._close(selector, key.data)
        with self._lock:
            (new, self._new), (gone, self._gone) = (self._new, []), (self._gone, [])
        for pipe in new:
            selector.register(pipe.fd, selectors.EVENT_READ, pipe)
        for pipe in gone:
            if not pipe.closed:
                self._read(pipe, all_of_it=True)
                self._close(selector, pipe)

    def _read(self, pipe: _Pipe, all_of_it: bool = False) -> bool:
        """Reads, and passes on whole lines. Returns whether no process has the writing end any more."""
        while True:
            try:
                piece = os.read(pipe.fd, _PIECE)
            except BlockingIOError:
                return False
            if not piece:
                return True
            *whole, pipe.rest = (pipe.rest + piece).split(b"\n")
            for line in whole:
                self._say(pipe, line)
            if len(pipe.rest) >= _LONGEST_LINE:
                self._say(pipe, pipe.rest)
                pipe.rest = b""
            if not all_of_it:
                return False

    def _close(self, selector: selectors.BaseSelector, pipe: _Pipe) -> None:
        if pipe.rest:
            self._say(pipe, pipe.rest)
        selector.unregister(pipe.fd)
        os.close(pipe.fd)
        pipe.closed = True

    def _say(self, pipe: _Pipe, line: bytes) -> None:
        from .backlog import report

        text = line.decode(errors="backslashreplace")
        report(lambda: self._show(text, WorkerOutput(pipe.slot, pipe.pid, pipe.stream)))


class _Pipe:
    """The reading end."""

    def __init__(self, fd: int, slot: int, stream: str) -> None:
        self.fd = fd
        self.slot = slot
        self.stream = stream
        self.pid = 0
        self.rest = b""
        self.closed = False


def print_line(line: str, speaker: str, stream: str) -> None:
    """Prints a line of output with its speaker before it. stream: "stdout" or "stderr"."""
    out = sys.stdout if stream == "stdout" else sys.stderr
    if out is not None:
        out.write(f"[{speaker}] {line}\n")
        out.flush()


def _printed(line: str, source: WorkerOutput) -> None:
    print_line(line, f"worker {source.worker}", source.stream)


class OutputSource:
    """What a worker gets: the writing ends of its pipes."""

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def __reduce__(self) -> tuple[Any, ...]:
        from .. import reduction

        return _arrived, ([reduction.DupFd(fd) for fd in self._fds],)

    def close(self) -> None:
        """Closes the ends of this process."""
        for fd in self._fds:
            os.close(fd)

    def install(self) -> None:
        """Makes standard output and standard error of this process write into the pipes, line by line."""
        for number, fd in enumerate(self._fds, 1):
            os.dup2(fd, number)
        self.close()
        for number, name in ((1, "stdout"), (2, "stderr")):
            old = getattr(sys, name)
            encoding, errors = getattr(old, "encoding", None) or "utf-8", "backslashreplace"
            # The old one may write elsewhere: in a notebook or under a test runner it does not use the descriptor.
            stream = open(number, "w", 1, encoding=encoding, errors=errors, closefd=False)
            setattr(sys, name, stream)


def _arrived(ends: list[Any]) -> OutputSource:
    return OutputSource([end.detach() for end in ends])
