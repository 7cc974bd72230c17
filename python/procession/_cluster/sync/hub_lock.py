"""Locks in the hub: Lock and RLock.

The requests, and what is answered:

    acquire   whether to wait                 bool; ["died", ...] once, if the holder has died: the lock is free again
    release                                   None
    tell      pid, process, node, exit code   nothing: a caller that was interrupted did not hear of this death, so the
                                              next one is told
    look                                      None, or [pid, thread, process, node, count, is it this thread, is it this
                                              process]

A `Lock` may be released by any process. If its holder has ended with exit code 0, it stays held, as on one machine. An
`RLock` is released by its holder alone.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .hub import Object, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .hub import Hub, Process

    Done = Callable[[list[Any] | None], None]

__all__ = ["Lock"]


class _Waiter(NamedTuple):
    owner: Owner
    number: int
    times: int  # how often it then holds the lock
    keep: bool  # it then holds the lock also if it is told of a death
    since: float
    done: Done  # called with None, or how the holder has died
    gone: Callable[[], None] | None  # called if the owner ends before; None: the waiter may be cancelled


class Lock(Object):
    """A Lock or RLock."""

    kind = "lock"

    def __init__(self, hub: Hub, number: int, name: str | None, recursive: bool = False, robust: bool = True) -> None:
        super().__init__(hub, number, name)
        self.recursive = recursive
        self._robust = robust
        self.holder: Owner | None = None
        self.count = 0
        self._line: deque[_Waiter] = deque()
        self._death: list[Any] | None = None  # the next one that acquires it is told
        self._ended: list[Any] | None = None  # the holder, if it has ended and left the lock held

    # --- what conditions use, too ---

    def is_of(self, owner: Owner) -> bool:
        """Returns whether this thread holds it."""
        return self.holder == owner

    def take(
        self,
        owner: Owner,
        number: int,
        times: int,
        done: Done,
        gone: Callable[[], None] | None = None,
        keep: bool = False,
    ) -> None:
        """Acquires the lock `times` times for a thread, now or later, and calls `done`.

        keep: the thread has the lock also if it is told of a death.
        """
        waiter = _Waiter(owner, number, times, keep, self.hub.clock(), done, gone)
        if self.holder is None and not self._line:
            self._give(waiter)
        else:
            self.contended += 1
            self._line.append(waiter)

    def free(self) -> int:
        """Releases the lock wholly. Returns how often it was held."""
        count, self.count, self.holder, self._ended = self.count, 0, None, None
        self._go_on()
        return count

    def _go_on(self) -> None:
        while self.holder is None and self._line:
            waiter = self._line.popleft()
            self.total_wait += self.hub.clock() - waiter.since
            self._give(waiter)

    def _give(self, waiter: _Waiter) -> None:
        death, self._death = self._death, None
        if death is None or waiter.keep:
            self.holder, self.count = waiter.owner, waiter.times
            self.acquisitions += 1
        waiter.done(death)

    # --- what the hub calls ---

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        if op == "acquire":
            self._acquire(owner, number, bool(args[0]))
        elif op == "release":
            self._release(owner, number)
        elif op == "look":
            self.hub.answer(owner, number, self._seen_by(owner))
        elif op == "tell":
            self._death = self._death or args
        else:
            raise ValueError(f"a lock has no operation {op!r}")

    def cancel(self, owner: Owner, number: int) -> bool:
        for waiter in self._line:
            if waiter.number == number and waiter.owner == owner:
                if waiter.gone is not None:
                    return False
                self._line.remove(waiter)
                return True
        return False

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        for waiter in [waiter for waiter in self._line if waiter.owner[:2] == process]:
            self._line.remove(waiter)
            if waiter.gone is not None:
                waiter.gone()
        if self.holder is None or self.holder[:2] != process or self._ended is not None:
            return
        told = [facts.pid, facts.name, facts.node_name, exitcode]
        if not self._robust or (exitcode == 0 and not self.recursive):
            self._ended = told
            return
        self._death = told
        self.free()

    def waiters(self) -> list[tuple[Owner, str]]:
        return [(waiter.owner, "acquire") for waiter in self._line]

    def holders(self) -> list[Owner]:
        return [] if self.holder is None else [self.holder]

    def facts(self) -> dict[str, Any]:
        return {
            "kind": "rlock" if self.recursive else "lock",
            "count": self.count,
            "left_by": self._ended,
            "death": self._death,
        }

    # --- requests ---

    def _acquire(self, owner: Owner, number: int, wait: bool) -> None:
        if self.recursive and self.holder == owner:
            self.count += 1
            self.acquisitions += 1
            self.hub.answer(owner, number, True)
        elif not wait and (self.holder is not None or self._line):
            self.hub.answer(owner, number, False)
        else:
            self.take(owner, number, 1, lambda death: self._answer(owner, number, death))

    def _answer(self, owner: Owner, number: int, death: list[Any] | None) -> None:
        if death is None:
            self.hub.answer(owner, number, True)
        else:
            self.hub.fail(owner, number, "died", *death)

    def _release(self, owner: Owner, number: int) -> None:
        if self.recursive:
            if self.holder != owner:
                text = "attempt to release recursive lock not owned by thread"
                self.hub.fail(owner, number, "error", "AssertionError", text)
                return
            if self.count > 1:
                self.count -= 1
                self.hub.answer(owner, number)
                return
        elif self.holder is None:
            self.hub.fail(owner, number, "error", "ValueError", "semaphore or lock released too many times")
            return
        # first the one that has released it, which runs
        self.hub.answer(owner, number)
        self.free()

    def _seen_by(self, owner: Owner) -> list[Any] | None:
        if self.holder is None:
            return None
        return [*self.hub.described(self.holder), self.count, self.holder == owner, self.holder[:2] == owner[:2]]
