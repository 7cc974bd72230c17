"""Starts a process with a new interpreter."""

from __future__ import annotations

import os

from . import _core, popen_fork, process, spawn
from ._process import visible_start as _visible_start
from ._start import lifeline as _lifeline
from ._start.start_message import pickled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .process import BaseProcess

__all__ = ["Popen"]

LONGEST_NAME = 60  # number of characters of a process's name on its command line
FIRST_FD = 3  # the first number of the descriptors that _core.spawn hands over


class _DupFd:
    """A descriptor, while it is sent to the child."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def detach(self) -> int:
        """Called in the child. Returns the descriptor, which the caller then owns."""
        os.set_inheritable(self.fd, False)
        return self.fd


class Popen(popen_fork.Popen):
    """A process that was started by exec. It finds its start message in family memory."""

    method = "spawn"
    DupFd: Callable[[int], Any] = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds = [_core.family_fd()]
        self._seen = _visible_start.watched()
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Returns the number that this descriptor will have in the child."""
        self._fds.append(fd)
        return fd if self._seen else FIRST_FD + len(self._fds) - 1

    def mark(self) -> Callable[[], None]:
        """Returns a function that drops the descriptors which are added from now on, before pickling starts again."""
        count = len(self._fds)
        return lambda: self._fds.__delitem__(slice(count, None))

    def _preparation_for(self, process_obj: BaseProcess) -> dict[str, Any]:
        preparation = spawn.get_preparation_data(process_obj._name)
        if (environment := process_obj.__dict__.get("_procession_environment")) is not None:  # the options of a pool
            preparation["environment"] = environment
        if _lifeline.holds(process_obj):
            preparation["lifeline"] = self.DupFd(self.duplicate_for_child(_lifeline.reader()))
        return preparation

    def _launch(self, process_obj: BaseProcess) -> None:
        preparation = self._preparation_for(process_obj)
        member = _core.Member.reserve(process_obj._name, self.method)
        try:
            with member:
                member.load(pickled(self, preparation, process_obj))
            options: dict[str, object] = {"family": self._fds[0]} if self._seen else {}
            if preparation.get("alias"):
                options["alias"] = True
            if not spawn.is_frozen():
                options["name"] = str(process_obj._name)[:LONGEST_NAME]
            command = spawn.get_command_line(slot=member.slot, generation=member.generation, **options)
            pid, pidfd = _visible_start.start(command, self._fds, self._seen)
        except BaseException:
            member.discard()
            raise
        self._hold(pid, lambda: bound(member, pid), pidfd)


def bound(member: _core.Member, pid: int) -> _core.Member:
    """Binds a seat to the pid of the process that was started for it. Returns the seat."""
    member.started(pid)
    return member


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
