"""What the errors of this package derive from, and those that multiprocessing has not.

They are not in `context`, as the others: whatever exception is found in that module, pickles of the old protocols are
expected to know by Python 2's name.
"""

from __future__ import annotations

__all__ = ["OwnerDiedError", "ProcessDiedError", "ProcessError"]


class ProcessError(Exception):
    """What the errors of this package derive from."""

    __module__ = "procession.context"  # where multiprocessing has it


class OwnerDiedError(ProcessError):
    """The lock that was to be acquired belonged to a process that is dead, and what it guards may be half changed.

    Raised once, in one of those that wait or in the next that comes; the lock is free again then. multiprocessing would
    wait for ever.

    pid, name: of the dead process. exitcode: how it ended (-N: killed by signal N), or None if nobody could tell.
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
    """A process ended otherwise than well, and not by an exception: what `process.exception` is then.

    pid, name: of the process. exitcode: how it ended (-N: killed by signal N). The text tells it in words, as in
    `Process-1 (pid 70) was killed by SIGKILL: out of memory`.
    """

    __module__ = "procession"

    def __init__(self, message: str, pid: int, name: str, exitcode: int) -> None:
        super().__init__(message)
        self.pid = pid
        self.name = name
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[type[ProcessDiedError], tuple[str, int, str, int]]:
        return type(self), (str(self), self.pid, self.name, self.exitcode)
