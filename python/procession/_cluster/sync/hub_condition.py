"""Conditions in the hub. The lock of a condition is an object of its own, and both act in one step.

The requests, and what is answered:

    wait      bool: was it notified. The thread, which holds the lock, releases it, waits for the notification, and
              acquires it as often as before; also if it is cancelled or told of a death (["died", ...])
    notify    how many    None
    waiting               the number of waiters
    tell                  as of the lock
    pass_on               nothing: a caller that was notified and interrupted, so the next waiter is notified instead

If a waiter ends after it was notified and before it has the lock again, the next one is notified instead.
"""

from __future__ import annotations

from .hub import Object, Owner
from .hub_lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hub import Hub, Process

__all__ = ["Condition"]


class Condition(Object):
    """The line of waiters of a Condition."""

    kind = "condition"

    def __init__(self, hub: Hub, number: int, name: str | None, lock: int) -> None:
        """lock: the number of the lock."""
        super().__init__(hub, number, name)
        found = hub.objects.get(lock)
        if not isinstance(found, Lock):
            raise TypeError("a Condition needs a Lock or an RLock of this cluster")
        self._lock = found
        hub.keep(lock, ("", number))
        self._line: dict[tuple[Owner, int], int] = {}  # how often the waiter held the lock; the first one came first

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        if op == "waiting":
            self.hub.answer(owner, number, len(self._line))
        elif op == "pass_on":
            self._notify(1)
        elif op == "tell":
            self._lock.request(owner, number, op, args)
        elif op not in ("wait", "notify"):
            raise ValueError(f"a condition has no operation {op!r}")
        elif not self._lock.is_of(owner):
            self.hub.fail(owner, number, "error", "AssertionError", f"the lock has to be acquired before {op}()")
        elif op == "wait":
            self.contended += 1
            # in the line before the lock is free: the next holder may notify at once
            self._line[owner, number] = self._lock.count
            self._lock.free()
        else:
            self._notify(args[0])
            self.hub.answer(owner, number)

    def cancel(self, owner: Owner, number: int) -> bool:
        times = self._line.pop((owner, number), None)
        if times is not None:
            self._acquire_again(owner, number, times, False)
        return False

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        for waiter in [waiter for waiter in self._line if waiter[0][:2] == process]:
            del self._line[waiter]

    def gone(self) -> None:
        self.hub.let_go(self._lock.number, ("", self.number))

    def waiters(self) -> list[tuple[Owner, str]]:
        return [(owner, "notification") for owner, _ in self._line]

    def facts(self) -> dict[str, Any]:
        return {"lock": self._lock.number}

    def _notify(self, n: int) -> None:
        while n > 0 and self._line:
            owner, number = next(iter(self._line))
            times = self._line.pop((owner, number))
            if self.hub.lives(owner):
                n -= 1
                self.acquisitions += 1
                self.total_wait += self.hub.waited(owner, number)
                self._acquire_again(owner, number, times, True)

    def _acquire_again(self, owner: Owner, number: int, times: int, notified: bool) -> None:
        def done(death: list[Any] | None) -> None:
            if death is None:
                self.hub.answer(owner, number, notified)
                return
            self.hub.fail(owner, number, "died", *death)
            if notified:
                self._notify(1)

        def gone() -> None:
            if notified:
                self._notify(1)

        self._lock.take(owner, number, times, done, gone, keep=True)
