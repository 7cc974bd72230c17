"""Events in the hub.

The requests, and what is answered:

    wait      True, when the event is set, or was set during the wait
    set       None
    clear     None
    is_set    bool
"""

from __future__ import annotations

from .hub import Object, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hub import Hub, Process

__all__ = ["Event"]


class Event(Object):
    """An Event."""

    kind = "event"

    def __init__(self, hub: Hub, number: int, name: str | None) -> None:
        super().__init__(hub, number, name)
        self._set = False
        self._line: dict[tuple[Owner, int], None] = {}

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        if op == "wait":
            if self._set:
                self.hub.answer(owner, number, True)
            else:
                self.contended += 1
                self._line[owner, number] = None
        elif op == "set":
            self.acquisitions += not self._set
            self._set = True
            self.hub.answer(owner, number)
            waiters, self._line = self._line, {}
            for waiter in waiters:
                self.total_wait += self.hub.waited(*waiter)
                self.hub.answer(*waiter, True)
        elif op == "clear":
            self._set = False
            self.hub.answer(owner, number)
        elif op == "is_set":
            self.hub.answer(owner, number, self._set)
        else:
            raise ValueError(f"an event has no operation {op!r}")

    def cancel(self, owner: Owner, number: int) -> bool:
        if (owner, number) not in self._line:
            return False
        del self._line[owner, number]
        return True

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        for waiter in [waiter for waiter in self._line if waiter[0][:2] == process]:
            del self._line[waiter]

    def waiters(self) -> list[tuple[Owner, str]]:
        return [(owner, "set") for owner, _ in self._line]

    def facts(self) -> dict[str, Any]:
        return {"set": self._set}
