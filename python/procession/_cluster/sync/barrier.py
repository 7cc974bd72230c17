"""Barrier of a cluster."""

from __future__ import annotations

from _operator import index

from ..._sync.base import name_shown
from .handle import CANCELLED, Handle, deadline_of
from .statistics import statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import BrokenBarrierError
    from typing import Any

    from ..._sync.statistics import Statistics
    from .call import Here

__all__ = ["Barrier"]


class Barrier(Handle):
    """A place where `parties` threads or processes of a cluster wait for each other, again and again.

    If a process dies while it waits, or its node, it stays counted in that round. If it dies while it calls the action,
    the barrier breaks. If it dies before it arrives, the others go on waiting, as for one that is late.
    """

    def __init__(
        self,
        here: Here,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        parties = index(parties)
        if parties < 1:
            raise ValueError(f"a barrier has at least 1 party, not {parties}")
        self._make(here, "barrier", name, parties)
        self._parties = parties
        self._action = action
        self._timeout = timeout

    def __getstate__(self) -> Any:
        return *super().__getstate__(), self._parties, self._action, self._timeout

    def __setstate__(self, state: Any) -> None:
        *rest, self._parties, self._action, self._timeout = state
        super().__setstate__(tuple(rest))

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all parties have arrived.

        Ctrl-C takes this party out of the round, which then waits for another one.

        Args:
            timeout: seconds; None: the timeout of the barrier. If the time passes, the barrier breaks.

        Returns:
            a number from 0 to parties - 1, a different one for each party.

        Raises:
            threading.BrokenBarrierError: the barrier is broken, or was broken or reset during the wait. An exception
                of the action is raised in the party that called it; for the others the barrier is broken.
            ConnectionError: the scheduler or the relay of this machine has gone.
        """
        if timeout is None:
            timeout = self._timeout
        action = self._action
        deadline = deadline_of(timeout)
        answer: Any = None
        try:
            answer = self._call("wait", action is not None, deadline=deadline, undo=_given_up)
            if answer is CANCELLED:
                self.abort()
                raise self._error()
            if answer[0] == "act":
                self._act(action, answer[2])
        except BaseException:
            if answer and answer[0] == "act":
                self._abort_round(answer[2])
            raise
        return self._index(answer)

    async def wait_async(self, timeout: float | None = None) -> int:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits.

        Otherwise as `wait`. The action runs in the loop. Cancelling takes this party out of the round.
        """
        if timeout is None:
            timeout = self._timeout
        action = self._action
        limit = None if timeout is None else max(0.0, timeout)
        answer: Any = None
        try:
            answer = await self._call_async("wait", action is not None, timeout=limit, undo=_given_up)
            if answer is CANCELLED:
                await self._call_async("abort")
                raise self._error()
            if answer[0] == "act":
                self._act(action, answer[2])
        except BaseException:
            if answer and answer[0] == "act":
                self._abort_round(answer[2])
            raise
        return self._index(answer)

    def _index(self, answer: Any) -> int:
        if answer[0] == "broken":
            raise self._error()
        return int(answer[1])

    def _act(self, action: Any, round: int) -> None:
        action()
        if not self._surely("tripped", round):
            raise self._error()

    def _abort_round(self, round: int) -> None:
        """Breaks the barrier, unless the round is over: the action has raised, or a signal handler beside it."""
        try:
            self._surely("abort", round)
        except BaseException:
            self._surely("abort", round)
            raise

    def abort(self) -> None:
        """Breaks the barrier: all that wait, and all that come later until `reset`, raise BrokenBarrierError."""
        self._surely("abort")

    def reset(self) -> None:
        """Makes the barrier as it was at first. Those that wait now raise BrokenBarrierError."""
        self._surely("reset")

    @property
    def parties(self) -> int:
        """The number of parties."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """The number of parties that wait now."""
        return int(self._call("look")[1])

    @property
    def broken(self) -> bool:
        """Whether the barrier is broken."""
        return bool(self._call("look")[2])

    def statistics(self) -> Statistics:
        """Returns how all processes have used the object until now: see the fields."""
        return statistics(self)

    def _error(self) -> BrokenBarrierError:
        from threading import BrokenBarrierError

        return BrokenBarrierError(f"{self!r} is broken, or was reset during the wait")

    def __repr__(self) -> str:
        try:
            parties, waiting, broken = self._call("look")
            state = "broken" if broken else f"waiters={waiting}/{parties}"
        except Exception:  # a barrier can be printed in any state
            state = "unknown"
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} at {id(self):#x}: {state}{name_shown(self)}>"


def _given_up(answer: Any) -> Any:
    return ("abort", [answer[1][2]]) if answer[0] == "ok" and answer[1][0] == "act" else None
