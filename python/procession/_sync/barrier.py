"""The barrier: where so many threads or processes wait for each other."""

from __future__ import annotations

from time import monotonic

from .. import _core
from ..process import yields
from .base import Shared, name_shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import BrokenBarrierError
    from typing import Any

    from ..context import BaseContext

__all__ = ["Barrier"]


_arrive = _core.Barrier._arrive
_pass = _core.Barrier._pass
_give_up = _core.Barrier._give_up


@yields("handle", "_key")
class Barrier(_core.Barrier, Shared):
    """A place where `parties` threads or processes wait for each other, again and again.

    A barrier can break: by `abort`, by a wait that takes too long, by an action that raises. Then all who wait and all
    who come raise `threading.BrokenBarrierError`, until `reset`.

    **When a process dies** that others wait for, they wait on, as for one that is late: a timeout, or `abort` by
    anybody, ends that. One that dies while it waits stays counted in that round. Neither delays `abort` or `reset`;
    in multiprocessing each of them may then hang.
    """

    __module__ = "procession.synchronize"  # where it is found, and what pickles call it

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> None:
        """parties: how many have to be there before they go on; ValueError if less than 1.

        action: called in each round by one of them before they go on. It is pickled with the barrier. timeout: for
        waits that give none, in seconds. ctx: of no consequence, contexts mix. name: for people to read.
        """
        if parties < 1:
            raise ValueError(f"a barrier has at least 1 party, not {parties}")
        _core.Barrier._create(self, parties)
        self.name = name
        self._action = action
        self._timeout = timeout

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._action, self._timeout

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *rest, self._action, self._timeout = state
        super().__setstate__(tuple(rest))

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all parties are there. Returns a number from 0 to parties - 1, another one to each of them.

        timeout: in seconds; None: the barrier's own, if it has one. If it passes, the barrier breaks.

        `threading.BrokenBarrierError`: the barrier is broken, or was broken or reset during the wait. What the action
        raises is raised in the party that ran it; for the others the barrier is broken. Ctrl-C takes this party out of
        the round, which then waits for another one.
        """
        if timeout is None:
            timeout = self._timeout
        end = None if timeout is None else monotonic() + timeout
        action = self._action
        place = _arrive(self, action is not None, timeout)
        if place is None:
            if not self.broken:  # so the action of the round before has taken all the time
                self.abort()
            raise _error(self)
        index, round = place
        if index == self.parties - 1:
            if action is not None:
                _act(self, action, round)
            return index
        passed = _pass(self, round, None if end is None else end - monotonic())
        if passed is None:
            passed = _give_up(self, round)  # or it has tripped in the last instant
        if not passed:
            raise _error(self)
        return index

    async def wait_async(self, timeout: float | None = None) -> int:
        """`wait` for asyncio: the event loop goes on meanwhile, without a thread that waits in its place.

        As `wait` in everything else; the action runs in the loop. Cancelling takes this party out of the round.
        """
        from .asyncio_wait import attempted

        if timeout is None:
            timeout = self._timeout
        end = None if timeout is None else monotonic() + timeout
        action = self._action
        place = await attempted(
            self, lambda: _arrive(self, action is not None, 0) or (() if self.broken else None), timeout
        )
        if not place:
            self.abort()
            raise _error(self)
        index, round = place
        if index == self.parties - 1:
            if action is not None:
                _act(self, action, round)
            return index
        left = None if end is None else end - monotonic()
        try:
            passed = await attempted(self, lambda: _pass(self, round, 0), left)
        except BaseException:
            _core.Barrier._leave(self, round)
            raise
        if passed is None:
            passed = _give_up(self, round)
        if not passed:
            raise _error(self)
        return index

    def __repr__(self) -> str:
        try:
            state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        except Exception:  # whatever is wrong with the barrier, it can be printed
            state = "unknown"
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} at {id(self):#x}: {state}{name_shown(self)}>"


def _act(self: Barrier, action: Callable[[], object], round: int) -> None:
    try:
        action()
    except BaseException:
        self.abort()
        raise
    if not _core.Barrier._tripped(self, round):
        raise _error(self)


def _error(self: Barrier) -> BrokenBarrierError:
    from threading import BrokenBarrierError

    return BrokenBarrierError(f"{self!r} is broken, or was reset during the wait")
