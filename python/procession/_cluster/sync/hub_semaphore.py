"""Semaphores in the hub: Semaphore and BoundedSemaphore.

The requests, and what is answered:

    acquire   whether to wait     bool
    release   how many            None
    look                          [the value, the greatest value]

A semaphore does not know which process has acquired it. So what a process has taken is gone if it dies.
"""

from __future__ import annotations

from collections import deque

from .hub import Object, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hub import Hub, Process

__all__ = ["Semaphore"]


class Semaphore(Object):
    """A Semaphore or BoundedSemaphore."""

    kind = "semaphore"

    def __init__(self, hub: Hub, number: int, name: str | None, value: int, most: int) -> None:
        super().__init__(hub, number, name)
        self._value = value
        self._most = most
        self._line: deque[tuple[Owner, int]] = deque()

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        if op == "acquire":
            self._acquire(owner, number, bool(args[0]))
        elif op == "release":
            self._release(owner, number, args[0])
        elif op == "look":
            self.hub.answer(owner, number, [self._value, self._most])
        else:
            raise ValueError(f"a semaphore has no operation {op!r}")

    def cancel(self, owner: Owner, number: int) -> bool:
        if (owner, number) not in self._line:
            return False
        self._line.remove((owner, number))
        return True

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        self._line = deque(waiter for waiter in self._line if waiter[0][:2] != process)

    def waiters(self) -> list[tuple[Owner, str]]:
        return [(owner, "acquire") for owner, _ in self._line]

    def facts(self) -> dict[str, Any]:
        return {"value": self._value, "most": self._most}

    def _acquire(self, owner: Owner, number: int, wait: bool) -> None:
        if self._value > 0:
            self._value -= 1
            self.acquisitions += 1
            self.hub.answer(owner, number, True)
        elif wait:
            self.contended += 1
            self._line.append((owner, number))
        else:
            self.hub.answer(owner, number, False)

    def _release(self, owner: Owner, number: int, n: int) -> None:
        if self._value + n > self._most:
            self.hub.fail(owner, number, "error", "ValueError", "semaphore or lock released too many times")
            return
        self._value += n
        self.hub.answer(owner, number)
        while self._value > 0 and self._line:
            self.total_wait += self.hub.waited(*self._line[0])
            self._value -= 1
            self.acquisitions += 1
            self.hub.answer(*self._line.popleft(), True)
