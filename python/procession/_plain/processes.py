"""Process objects of multiprocessing, with our keyword parameters, and the module `multiprocessing.process`.

It stands for `procession.process`: names that it does not have are those of multiprocessing's module.
"""

from __future__ import annotations

import multiprocessing.context as _contexts
import os
import signal
import sys
from multiprocessing import process as _theirs
from multiprocessing.process import BaseProcess, active_children, current_process, parent_process
from typing import Any

from .errors import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Base = BaseProcess
else:
    _Base = object  # beside it there is a class of multiprocessing

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]


class Additions(_Base):
    """What our processes have beyond those of multiprocessing. It stands before one of these as a base class."""

    _popen: Any
    _procession_relays: Any = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        logs: bool = False,
        output: Any = None,
    ) -> None:
        """Prepares the process. For `logs` and `output` see `procession.Process` on Linux."""
        super().__init__(group, target, name, args, kwargs or {}, daemon=daemon)
        if output is not None and sys.platform == "win32":
            raise refusal("output=", "a pipe or a file")
        if logs or output is not None:
            from .relays import RelaysOfProcess

            self._procession_relays = RelaysOfProcess(logs, output)

    def start(self) -> None:
        """Starts the process."""
        relays = self._procession_relays
        if relays is None or self._popen is not None:  # the latter is an error
            super().start()
            return
        relays.prepare(self)
        try:
            super().start()
        finally:
            relays.started(0 if self._popen is None else self.pid)

    def _bootstrap(self, *args: Any, **keywords: Any) -> Any:
        if self._procession_relays is not None:
            self._procession_relays.install()
        return super()._bootstrap(*args, **keywords)  # type: ignore[misc]

    def join(self, timeout: float | None = None) -> None:
        """Waits until the process has ended, at most `timeout` seconds."""
        super().join(timeout)
        if self._procession_relays is not None and self.exitcode is not None:
            self._procession_relays.finish()

    def terminate(self, *, grace: float | None = None) -> None:
        """Ends the process.

        grace: seconds; after them the process is killed, and this method joins it. None: returns at once.
        """
        if grace is None:
            super().terminate()
            return
        from .._arguments import seconds

        limit = seconds("grace", grace)
        super().terminate()
        self.join(limit)
        if self.exitcode is None:
            self.kill()
            self.join()

    def interrupt(self) -> None:
        """Sends SIGINT, as Ctrl-C does."""
        if sys.version_info >= (3, 14):
            super().interrupt()
        elif sys.platform == "win32":
            raise refusal("Process.interrupt()", "Process.terminate()")
        elif self.exitcode is None and self.pid is not None:
            os.kill(self.pid, signal.SIGINT)

    @property
    def exception(self) -> BaseException | None:
        """The exception that ended the process: on Linux only."""
        raise refusal("Process.exception", "Process.exitcode")


class Process(Additions, _contexts.Process):
    """A process that is started by the method of the default context."""


class SpawnProcess(Additions, _contexts.SpawnProcess):
    """A process with a new interpreter."""


if sys.platform != "win32":

    class ForkProcess(Additions, _contexts.ForkProcess):
        """A process that is a copy of its parent, made by fork."""

    class ForkServerProcess(Additions, _contexts.ForkServerProcess):
        """A process that is a copy of the fork server."""


def what_ended(process: BaseProcess) -> BaseException | None:
    """Returns what ended a process; None if it ended well."""
    from .._start.exit_report import exception_of

    return exception_of(process, process.exitcode or 0, None, False)  # type: ignore[arg-type]


def lending(module: str) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a module, for names that its twin in multiprocessing has because it imports them."""

    def lend(name: str) -> Any:
        if not name.startswith("__"):
            from .._process.stdlib_names import find

            return find(module, name)
        raise AttributeError(name)

    return lend


def __getattr__(name: str) -> Any:
    if name == "_program":  # the same bytes in all processes of a program, and in no other one
        from hashlib import sha256

        return sha256(b"procession" + bytes(_theirs.current_process().authkey)).digest()[:16]
    return getattr(_theirs, name)
