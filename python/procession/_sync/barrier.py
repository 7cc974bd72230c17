"""The barrier, at which a number of threads or processes wait for each other."""

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

    A barrier breaks by `abort`, by a wait that takes too long, or by an action that raises. Then all that wait and all
    that come later raise `threading.BrokenBarrierError`, until `reset`.

    **When a process dies** before it arrives, the others go on waiting, as for one that is late; a timeout, or `abort`
    by any process, ends that. One that dies while it waits stays counted in that round. Neither delays `abort` or
    `reset`; in multiprocessing these may then hang.

    Example:
        ```python
        import procession as mp

        def runner(start):
            start.wait()

        if __name__ == "__main__":
            start = mp.Barrier(3)
            runners = [mp.Process(target=runner, args=(start,)) for _ in range(2)]
            for process in runners:
                process.start()
            start.wait()
            print("all three have arrived")  # all three have arrived
        ```
    """

    __module__ = "procession.synchronize"  # the public name, which pickles use

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: BaseContext | None = None,
        name: str | None = None,
    ) -> None:
        """Makes a barrier.

        Args:
            parties: how many must arrive before they go on.
            action: in each round one party calls it before they go on. It is pickled with the barrier.
            timeout: seconds, for waits that give none; None: without limit.
            ctx: ignored; barriers work across contexts.
            name: for people to read, and for observers of the running program.

        Raises:
            ValueError: `parties` is less than 1.
        """
        if parties < 1:
            raise ValueError(f"a barrier has at least 1 party, not {parties}")
        _core.Barrier._create(self, parties)
        self.name = name
        if name is not None:
            _core.Barrier._label(self, str(name))
        self._action = action
        self._timeout = timeout

    def __getstate__(self) -> tuple[Any, ...]:
        return *super().__getstate__(), self._action, self._timeout

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *rest, self._action, self._timeout = state
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
        """
        if timeout is None:
            timeout = self._timeout
        end = None if timeout is None else monotonic() + timeout
        action = self._action
        place = _arrive(self, action is not None, timeout)
        if place is None:
            if not self.broken:  # the action of the round before has taken all the time
                self.abort()
            raise _error(self)
        index, round = place
        if index == self.parties - 1:
            if action is not None:
                _act(self, action, round)
            return index
        passed = _pass(self, round, None if end is None else end - monotonic())
        if passed is None:
            passed = _give_up(self, round)  # True if the barrier has tripped in the last instant
        if not passed:
            raise _error(self)
        return index

    async def wait_async(self, timeout: float | None = None) -> int:
        """`wait` for asyncio: the event loop runs meanwhile, and no thread waits.

        Otherwise as `wait`. The action runs in the loop. Cancelling takes this party out of the round.
        """
        from .asyncio_wait import attempted

        if timeout is None:
            timeout = self._timeout
        end = None if timeout is None else monotonic() + timeout
        action = self._action
        place = await attempted(
            self, "barrier", lambda: _arrive(self, action is not None, 0) or (() if self.broken else None), timeout
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
            passed = await attempted(self, "barrier", lambda: _pass(self, round, 0), left, round)
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
        except Exception:  # a barrier can be printed in any state
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
