"""Lock, RLock, Semaphore and BoundedSemaphore of a cluster."""

from __future__ import annotations

from _operator import index

from ..._sync.base import RECURSIVE_MUTEX, SEM_VALUE_MAX, SemLock, name_shown, own_name, value_shown
from .handle import Handle, deadline_of
from .statistics import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from ..._sync.statistics import Statistics
    from .call import Here

__all__ = ["BoundedSemaphore", "Lock", "RLock", "Semaphore"]


class _Acquired(Handle, SemLock):
    """What can be acquired and released."""

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Acquires it.

        Args:
            block: whether to wait until that is possible.
            timeout: seconds to wait; None: without limit.

        Returns:
            whether it was acquired.

        Raises:
            OwnerDiedError: once, if the process that held the lock has died, or its node.
            ConnectionError: the scheduler or the relay of this machine has gone.
        """
        wait = bool(block) and (timeout is None or timeout > 0)
        deadline = deadline_of(timeout) if wait else None
        return self._call("acquire", wait, deadline=deadline, undo=_given_back) is True

    async def acquire_async(self, timeout: float | None = None) -> bool:
        """`acquire` for asyncio: the event loop runs meanwhile, and no thread waits. Cancelling ends the wait.

        An RLock belongs to a thread, so all tasks of a loop hold it together.

        Args:
            timeout: seconds; None: without limit.

        Returns:
            whether it was acquired in that time. It raises what `acquire` raises.
        """
        wait = timeout is None or timeout > 0
        return bool(await self._call_async("acquire", wait, timeout=timeout if wait else None, undo=_given_back))

    def __enter__(self) -> bool:
        return self._call("acquire", True, undo=_given_back) is True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._surely("release", 1)

    def statistics(self) -> Statistics:
        """Returns how all processes have used the object until now: see the fields."""
        return statistics(self)


def _given_back(answer: Any) -> Any:
    if answer[0] == "ok":
        return ("release", [1]) if answer[1] else None
    return ("tell", answer[1:5]) if answer[0] == "died" else None


class _Locking(_Acquired):
    _recursive = False

    def __init__(self, here: Here, name: str | None = None, robust: bool = True) -> None:
        self._make(here, "lock", name, self._recursive, bool(robust))

    def release(self) -> None:
        """Releases it."""
        self._surely("release")

    def locked(self) -> bool:
        """Returns whether a process holds it."""
        return self._call("look") is not None

    def _look(self) -> Any:
        return self._call("look")

    def _is_mine(self) -> bool:
        seen = self._look()
        return seen is not None and bool(seen[5])

    def _count(self) -> int:
        seen = self._look()
        return int(seen[4]) if seen is not None and seen[5] else 0

    def _value(self) -> tuple[int, int]:
        return int(not self.locked()), 1


class Lock(_Locking):
    """A lock that the processes of a cluster share. One holder at a time has it; it cannot acquire it again.

    Any process may release it. If the process that acquired it last has died, or its node, the next `acquire` or one
    that waits already raises `OwnerDiedError` once, and the lock is free again. If that process ended with exit code 0,
    the lock stays held. A holder that is stopped or slow keeps it as long as its node is a member of the cluster.
    """

    def __repr__(self) -> str:
        try:
            owner = _shown(self._look())
        except Exception:  # a lock can be printed in any state
            owner = "unknown"
        return f"<{type(self).__name__}(owner={owner}{name_shown(self)})>"


class RLock(_Locking):
    """A lock that the processes of a cluster share. The thread that holds it may acquire it again.

    If its process dies, however it ends, the next `acquire` or one that waits already raises `OwnerDiedError` once.
    """

    _kind = RECURSIVE_MUTEX
    _recursive = True

    def __repr__(self) -> str:
        try:
            seen = self._look()
            count = 0 if seen is None else seen[4] if seen[5] else "nonzero"
            owner = _shown(seen)
        except Exception:  # a lock can be printed in any state
            owner = count = "unknown"
        return f"<{type(self).__name__}({owner}, {count}{name_shown(self)})>"


class Semaphore(_Acquired):
    """A number that the processes of a cluster share: `acquire` takes one from it and waits while it is 0.

    A semaphore does not know which process has acquired it. So what a process has taken is gone if it dies.
    """

    def __init__(self, here: Here, value: int = 1, name: str | None = None) -> None:
        self._make_semaphore(here, value, SEM_VALUE_MAX, name)

    def _make_semaphore(self, here: Here, value: int, most: int, name: str | None) -> None:
        value, most = index(value), index(most)
        if not 0 <= value <= SEM_VALUE_MAX:
            raise ValueError(f"a semaphore's value is from 0 to {SEM_VALUE_MAX}, not {value}")
        self._make(here, "semaphore", name, value, most)

    def release(self, n: int = 1) -> None:
        """Adds `n` to the value. ValueError: `n` is less than 1, or the value would exceed the greatest one."""
        n = index(n)
        if n < 1:
            raise ValueError("n must be one or more")
        self._surely("release", n)

    def get_value(self) -> int:
        """Returns the value now."""
        return int(self._call("look")[0])

    def locked(self) -> bool:
        """Returns whether `acquire` would have to wait now."""
        return self.get_value() == 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({value_shown(self)}{name_shown(self)})>"

    def _is_mine(self) -> bool:
        return False

    def _count(self) -> int:
        return 0

    def _value(self) -> tuple[int, int]:
        value, most = self._call("look")
        return value, most


class BoundedSemaphore(Semaphore):
    """A semaphore whose value never exceeds its first one: `release` raises ValueError instead."""

    def __init__(self, here: Here, value: int = 1, name: str | None = None) -> None:
        self._make_semaphore(here, value, value, name)

    def __repr__(self) -> str:
        try:
            limit: object = self._value()[1]
        except Exception:  # a semaphore can be printed in any state
            limit = "unknown"
        return f"<{type(self).__name__}({value_shown(self)}, maxvalue={limit}{name_shown(self)})>"


def _shown(seen: Any) -> str:
    """Returns the holder as `repr` shows it. seen: what the request "look" answers."""
    if seen is None:
        return "None"
    if not seen[6]:
        return "SomeOtherProcess"
    if not seen[5]:
        return "SomeOtherThread"
    return own_name()
