"""Barriers in the hub.

The requests, and what is answered:

    wait      has it an action     ["pass", index] when all have arrived; ["act", index, round]: all have arrived, and
                                   this party calls the action; ["broken"]
    tripped   round                bool: the parties go on after the action; False: it was broken meanwhile
    abort     round                None. round: nothing happens if it is over; it may be missing
    reset                          None
    look                           [parties, how many wait, is it broken]

A request `wait` that is cancelled takes its party out of the round. A party whose process ends while it waits stays
counted in its round. If the process that calls the action ends, the barrier breaks.
"""

from __future__ import annotations

from .hub import Object, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .hub import Hub, Process

__all__ = ["Barrier"]


class Barrier(Object):
    """A Barrier."""

    kind = "barrier"

    def __init__(self, hub: Hub, number: int, name: str | None, parties: int) -> None:
        super().__init__(hub, number, name)
        self._parties = parties
        self._broken = False
        self._round = 0
        self._there: dict[tuple[Owner, int], int] = {}  # the index of each party that waits
        self._ended: set[int] = set()  # the indices of parties that have ended while they waited
        self._actor: Owner | None = None  # calls the action
        self._early: dict[tuple[Owner, int], bool] = {}  # came during the action, for the next round

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        if op == "wait":
            self._wait(owner, number, bool(args[0]))
        elif op == "tripped":
            tripped = self._actor is not None and args[0] == self._round
            self.hub.answer(owner, number, tripped)
            if tripped:
                self._trip()
        elif op == "abort":
            self.hub.answer(owner, number)
            if not args or args[0] == self._round:
                self._break()
        elif op == "reset":
            self.hub.answer(owner, number)
            self._break()
            self._broken = False
        elif op == "look":
            self.hub.answer(owner, number, [self._parties, self._count(), self._broken])
        else:
            raise ValueError(f"a barrier has no operation {op!r}")

    def cancel(self, owner: Owner, number: int) -> bool:
        name = owner, number
        return self._there.pop(name, None) is not None or self._early.pop(name, None) is not None

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        for name in [name for name in self._early if name[0][:2] == process]:
            del self._early[name]
        for name in [name for name in self._there if name[0][:2] == process]:
            self._ended.add(self._there.pop(name))
        if self._actor is not None and self._actor[:2] == process:
            self._break()

    def waiters(self) -> list[tuple[Owner, str]]:
        return [(owner, "barrier") for owner, _ in (*self._there, *self._early)]

    def holders(self) -> list[Owner]:
        return [] if self._actor is None else [self._actor]

    def facts(self) -> dict[str, Any]:
        return {"parties": self._parties, "waiting": self._count(), "broken": self._broken}

    def _count(self) -> int:
        return 0 if self._broken else len(self._there) + len(self._ended)

    def _wait(self, owner: Owner, number: int, has_action: bool) -> None:
        if self._broken:
            self.hub.answer(owner, number, ["broken"])
            return
        if self._actor is not None:
            self.contended += 1
            self._early[owner, number] = has_action
            return
        taken = {*self._there.values(), *self._ended}
        if len(taken) < self._parties - 1:
            self.contended += 1
            self._there[owner, number] = next(index for index in range(self._parties) if index not in taken)
        elif has_action:
            self._actor = owner
            self.hub.answer(owner, number, ["act", self._parties - 1, self._round])
        else:
            self.hub.answer(owner, number, ["pass", self._parties - 1])
            self._trip()

    def _trip(self) -> None:
        self.acquisitions += 1
        self._end_round("pass")

    def _break(self) -> None:
        self._broken = True
        early, self._early = self._early, {}
        for name in early:
            self.hub.answer(*name, ["broken"])
        self._end_round("broken")

    def _end_round(self, what: str) -> None:
        there, self._there = self._there, {}
        self._ended.clear()
        self._round += 1
        self._actor = None
        for name, index in there.items():
            self.total_wait += self.hub.waited(*name)
            self.hub.answer(*name, ["pass", index] if what == "pass" else ["broken"])
        early, self._early = self._early, {}
        for (owner, number), has_action in early.items():
            self._wait(owner, number, has_action)
