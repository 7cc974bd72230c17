"""Log records and output of single processes (`Process(logs=, output=)`): the relays of pools, for one process each."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..process import BaseProcess
    from .log_relay import LogRelay
    from .output_relay import OutputRelay, WorkerOutput

__all__ = ["ProcessOutput", "ProcessRelays"]


class ProcessOutput(NamedTuple):
    """From which process a line comes."""

    name: str
    """The name of the process."""
    pid: int
    """Its process id."""
    stream: str
    """"stdout" or "stderr"."""


class ProcessRelays:
    """What a Process object has, if it was made with these options. Its child gets the sources alone."""

    def __init__(self, logs: bool, output: Any) -> None:
        """Checks the options.

        Raises:
            TypeError: `output` is neither a callable nor a str.
            ValueError: `output` is a str, but not "forward".
        """
        if isinstance(output, str):
            if output != "forward":
                raise ValueError(f'output must be "forward" or a callable, not {output!r}')
        elif output is not None and not callable(output):
            raise TypeError(f'output must be "forward" or a callable, not {output!r}')
        self._logs_wanted = bool(logs)
        self._show: Any = output
        self._logs: LogRelay | None = None
        self._output: OutputRelay | None = None
        self._sources: list[Any] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._sources,)

    # --- in the parent ---

    def prepare(self, process_obj: BaseProcess) -> None:
        """Makes what the process gets. Called before it is started."""
        self._sources = []
        if self._show is not None:
            from .output_relay import OutputRelay

            self._output = OutputRelay(_shown_by(self._show, process_obj.name))
            self._sources.append(self._output.source(0))
        if self._logs_wanted:
            from ..context import _default_context
            from .log_relay import LogRelay

            self._logs = LogRelay(_default_context)
            self._sources.append(self._logs.source)

    def started(self, pid: int) -> None:
        """Called when the process was started, and with pid 0 if that has failed. Starts the threads."""
        if self._output is not None:
            self._output.started(0, pid, self._sources[0])
        self._sources = []
        if not pid:
            self.finish()
            return
        for relay in (self._output, self._logs):
            if relay is not None:
                relay.begin()

    def finish(self) -> None:
        """Called when the process has ended. Returns when all that it has said has been passed on."""
        output, self._output = self._output, None
        logs, self._logs = self._logs, None
        for relay in (output, logs):
            if relay is not None:
                relay.finish()

    # --- in the child ---

    def install(self) -> None:
        """Makes this process, which was just started, say everything to its parent."""
        if self._output is not None:  # a forked child has copies of the parent's ends, which would keep a pipe open
            self._output.forget()
        self._output = self._logs = None
        for source in self._sources:
            source.install()
        self._sources = []


def _arrived(sources: list[Any]) -> ProcessRelays:
    made = ProcessRelays(False, None)
    made._sources = sources
    return made


def _shown_by(show: Any, name: str) -> Callable[[str, WorkerOutput], object]:
    if show == "forward":
        from .output_relay import print_line

        return lambda line, source: print_line(line, name, source.stream)
    return lambda line, source: show(line, ProcessOutput(name, source.pid, source.stream))
