"""Writes messages to a comm of Dask: what is said in one turn of the loop goes together, and without a further turn."""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

__all__ = ["Writer"]


class Writer:
    """The writing side of a comm. If the comm ends, nothing is written any more; its reader is told."""

    def __init__(self, comm: Any = None) -> None:
        self._comm = comm
        self._out: list[Any] = []
        self._is_due = False
        self._writing: asyncio.Task[None] | None = None

    def open(self, comm: Any) -> None:
        """Begins to write to a comm, first what was said before."""
        self._comm = comm
        self.flush()

    def say(self, message: list[Any]) -> None:
        """Writes a message at the end of this turn of the loop, or at the next `flush`."""
        self._out.append(message)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Writes what was said."""
        if not self._out or self._comm is None or self._writing is not None:
            return
        out, self._out = self._out, []
        try:
            work = self._comm.write(out)
            if work is None:
                return
            # Nearly always the comm takes a message at once. That saves the turn of the loop in which a task begins.
            waits_for = work.send(None)
        except (StopIteration, OSError):
            return
        except BaseException:
            self._comm.abort()
            raise
        self._writing = asyncio.ensure_future(self._finish(_Begun(work, waits_for)))

    async def _finish(self, work: _Begun) -> None:
        try:
            await work
        except OSError:
            pass
        except BaseException:
            self._comm.abort()
            raise
        finally:
            self._writing = None
        self.flush()


class _Begun:
    """A coroutine that has run until its first wait, as something to await."""

    def __init__(self, work: Any, waits_for: Any) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                step, value = self._work.throw, error
            else:
                step = self._work.send
            try:
                waits_for = step(value)
            except StopIteration as done:
                return done.value
