"""The base class of the errors of this package, and the errors that multiprocessing does not have.

They are not in `context`, as the others: pickle's old protocols map each exception of that module to a name of Python
2.
"""

from __future__ import annotations

import sys

__all__ = ["MessageLostError", "OwnerDiedError", "ProcessDiedError", "ProcessError"]


class ProcessError(Exception):
    """The base class of the errors of this package."""

    __module__ = "procession.context"  # where multiprocessing has it


if not getattr(sys.modules["procession"], "native", True):  # then it is the class of multiprocessing
    globals()["ProcessError"] = __import__("multiprocessing.context", fromlist=["ProcessError"]).ProcessError


class OwnerDiedError(ProcessError):
    """Raised by `acquire` if the process that held the lock has died. The data that it guards may be half changed.

    It is raised once, in one of the processes that wait or in the next one that comes. Then the lock is free again.

    Difference from multiprocessing: it waits for ever.

    Attributes:
        pid: the process id of the dead process.
        name: the name of the dead process.
        exitcode: how it ended (-N: signal N killed it); None if that cannot be known.
    """

    __module__ = "procession"

    def __init__(self, message: str, pid: int, name: str, exitcode: int | None) -> None:
        super().__init__(message)
        self.pid = pid
        self.name = name
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[type[OwnerDiedError], tuple[str, int, str, int | None]]:
        return type(self), (str(self), self.pid, self.name, self.exitcode)


class ProcessDiedError(ProcessError):
    """The value of `process.exception` if a process did not end well, but no exception ended it.

    Its text says in words how the process ended: `Process-1 (pid 70) was killed by SIGKILL: out of memory`.

    Attributes:
        pid: the process id.
        name: the name of the process.
        exitcode: how it ended (-N: signal N killed it).
    """

    __module__ = "procession"

    def __init__(self, message: str, pid: int, name: str, exitcode: int) -> None:
        super().__init__(message)
        self.pid = pid
        self.name = name
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[type[ProcessDiedError], tuple[str, int, str, int]]:
        return type(self), (str(self), self.pid, self.name, self.exitcode)


class MessageLostError(ProcessError):
    """Raised by `get` of a cluster's queue in place of a big message: the node at which it lay has died.

    Big messages stay at the node of the process that has put them, until they are received. Other messages are not
    lost with their node. `get` raises the error in the turn of the message; the next call returns the message after it.

    Attributes:
        node: the address of the node.
        size: number of bytes of the message.
    """

    __module__ = "procession"

    def __init__(self, message: str, node: str, size: int) -> None:
        super().__init__(message)
        self.node = node
        self.size = size

    def __reduce__(self) -> tuple[type[MessageLostError], tuple[str, str, int]]:
        return type(self), (str(self), self.node, self.size)
