"""What a pool keeps on the parent's side for options of its workers: results at their end, log records, output;
and whether they have used the same random numbers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..context import BaseContext
    from .exits import ExitResults
    from .inherited_random import InheritedRandom
    from .log_relay import LogRelay
    from .output_relay import OutputRelay, OutputSource

__all__ = ["OfWorkers", "Relays"]


class OfWorkers:
    """The options of workers, and their output if the parent reads it. On Linux, and without the extension."""

    def __init__(self, more: dict[str, Any]) -> None:
        """more: as `OfPool.for_workers` returns it, or empty."""
        self.exits: ExitResults | None = None
        self._output: OutputRelay | None = None
        self._starting: OutputSource | None = None
        self._more = dict(more)

    def for_worker(self, slot: int) -> dict[str, Any]:
        """Returns the options for a worker that is about to start."""
        if self._output is None:
            return self._more
        self._starting = self._output.source(slot)
        return {**self._more, "output": self._starting}

    def started(self, slot: int, pid: int) -> None:
        """Called when the worker was started, and with pid 0 if that has failed."""
        if self._output is not None and self._starting is not None:
            self._output.started(slot, pid, self._starting)
            self._starting = None

    def ended(self, slot: int) -> None:
        """Called when the worker has ended."""
        if self._output is not None:
            self._output.ended(slot)


class Relays(OfWorkers):
    """The relays of a pool. The supervisor calls the methods, all in one thread at a time."""

    def __init__(self, context: BaseContext, more: dict[str, Any], inherits: bool) -> None:
        """more: as `OfPool.for_workers` returns it. inherits: whether workers inherit the state of numpy.random."""
        super().__init__(more)
        self._logs: LogRelay | None = None
        if (function := more.get("exit_function")) is not None:
            from .exits import ExitResults

            self.exits = ExitResults(context, function)
            self._more["exit_function"] = self.exits.call
        self._random: InheritedRandom | None = None
        if inherits:
            from .inherited_random import InheritedRandom

            self._random = InheritedRandom(context)
            self._more["random"] = self._random.source
        if self._more.pop("logs", False):
            from .log_relay import LogRelay

            self._logs = LogRelay(context)
            self._more["logs"] = self._logs.source
        if (show := self._more.pop("output", None)) is not None:
            from .output_relay import OutputRelay

            self._output = OutputRelay(None if show == "forward" else show)

    def for_worker(self, slot: int) -> dict[str, Any]:
        """Returns the options for a worker that is about to start."""
        if self._random is not None:
            self._random.source.begin()
        return super().for_worker(slot)

    def begin(self) -> None:
        """Called when the first workers were started: threads would be copied by a fork."""
        for relay in (self._logs, self._output):
            if relay is not None:
                relay.begin()

    def finish(self) -> None:
        """Called when all workers have ended. Returns when all that they have said has been passed on."""
        for relay in (self._output, self._logs, self._random):
            if relay is not None:
                relay.finish()
