"""Starts a process by a request to the fork server."""

from __future__ import annotations

import os

from . import _core, forkserver, popen_fork, popen_spawn_posix, process
from ._start.start_message import pickled
from .popen_spawn_posix import bound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .process import BaseProcess

__all__ = ["Popen"]


class _DupFd:
    """A descriptor, while it is sent to the child: its index among the descriptors that were sent."""

    def __init__(self, ind: int) -> None:
        self.ind = ind

    def detach(self) -> int:
        """Called in the child. Returns the descriptor, which the caller then owns."""
        fds = forkserver.get_inherited_fds()
        assert fds is not None, "this process was not started by a fork server"
        os.set_inheritable(fds[self.ind], False)
        return fds[self.ind]


class Popen(popen_spawn_posix.Popen):
    """A process that the fork server has forked. The server waits for it and stores its exit code."""

    method = "forkserver"
    DupFd: Callable[[int], Any] = _DupFd

    def __init__(self, process_obj: BaseProcess) -> None:
        self._fds = []
        popen_fork.Popen.__init__(self, process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Returns the argument of DupFd: the index of this descriptor among those that are sent."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: BaseProcess) -> None:
        preparation = self._preparation_for(process_obj)
        if not forkserver._forkserver._is_known():  # it starts while this process packs the message
            forkserver.ensure_running()
        member = _core.Member.reserve(process_obj._name, self.method)
        try:
            with member:
                member.load(pickled(self, preparation, process_obj))
            pid, pidfd = forkserver.connect_to_new_process(member, self._fds)
        except BaseException:
            member.discard()
            raise
        self._hold(pid, lambda: bound(member, pid), pidfd, direct=False)


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
