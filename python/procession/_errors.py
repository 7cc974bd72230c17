"""The base class of the errors of this package, and the errors that multiprocessing does not have.

They are not in `context`, as the others: pickle's old protocols map each exception of that module to a name of Python
2.
"""

from __future__ import annotations

__all__ = ["OwnerDiedError", "ProcessDiedError", "ProcessError"]


class ProcessError(Exception):
    """The base class of the errors of this package."""

    __module__ = "procession.context"  # where multiprocessing has it


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
