"""The connection of a pool to one node: what was sent there and is not done, and how much more may be sent.

The number of tasks at a node follows from how long they take to come back: it grows while they come back quickly, so
that many small tasks are on their way at once, and is twice the number of workers if they take long. So a node has
enough to do, and the last tasks do not wait behind each other. The bytes of these tasks, and of their results as far as
can be known from earlier ones, are bounded as well.

All methods but `send` and `tell` run in the thread of Dask's loop.
"""

from __future__ import annotations

import asyncio
import time

from .common import Kept, held_up, named
from .frames import packed
from .node import HANDLER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .engine import ClusterEngine
    from .groups import Work
    from .members import Node

__all__ = ["Link"]

_QUICK, _SLOW = 0.1, 0.4  # seconds from sending a task to its outcome
_MOST_TASKS = 4096
_TO_LEAVE = 15.0  # seconds for a node that leaves to close the connection
_MOST_BYTES = 64 << 20  # of tasks at a node that are not done, with their results


class Link:
    """One connection. `workers`: number of workers of this pool on the node."""

    def __init__(self, engine: ClusterEngine, node: Node, workers: int) -> None:
        self.node = node
        self.workers = workers
        self.connected = False
        self.leaving = False  # the node takes no more tasks
        self.ready = False  # its workers have started
        # why the connection has ended; None if it has not
        self.ended: str | None = None
        self.sent: dict[tuple[int, int], Work] = {}
        self._engine = engine
        self._window = float(2 * workers)
        self._bytes = 0
        self._result_bytes = 0.0  # of a result, on average
        self._kept = Kept()
        self._known: set[int] = set()  # keys of the definitions that the node has
        self._out: list[tuple[Any, ...]] = []
        self._wake = asyncio.Event()
        self._woken = False
        self._heard = time.monotonic()
        self._comm: Any = None
        self._task: asyncio.Task[None] | None = None

    # --- from any thread; the caller holds the condition of the engine ---

    def has_room(self) -> bool:
        """Returns whether another task may be sent."""
        count = len(self.sent)
        return (self.ready and not self.leaving) and (
            not count or (count < self._window and self._bytes + self._result_bytes * count < _MOST_BYTES)
        )

    def load(self) -> float:
        """Returns the number of tasks per worker."""
        return len(self.sent) / self.workers

    def send(self, work: Work) -> None:
        """Sends a task to the node."""
        definition = work.definition
        if definition.key not in self._known and work.is_item:
            self._known.add(definition.key)
            self._out.append(("define", definition.key, definition.data, definition.starred, definition.timeout))
        self._out.extend(self._kept.messages(work.parts))
        parts = named(work.parts)
        self.sent[definition.key, work.number] = work
        self._bytes += work.bytes
        work.sent_at = time.monotonic()
        if work.is_item:
            self.tell("items", definition.key, work.number, work.many, *parts)
        else:
            self.tell("call", definition.key, definition.data, definition.timeout, *parts)

    def tell(self, *message: Any) -> None:
        """Sends a message to the node."""
        self._out.append(message)
        if not self._woken:
            self._woken = True
            self._engine.soon(self._wake.set)

    def settled(self, key: int, number: int, result: int) -> Work | None:
        """Removes a task whose outcome has come, and adapts how much may be sent. result: bytes of its result."""
        work = self.sent.pop((key, number), None)
        if work is None:
            return None
        self._bytes -= work.bytes
        self._result_bytes += (result - self._result_bytes) / 8
        took = time.monotonic() - work.sent_at
        if took < _QUICK:
            self._window = min(self._window + 1, _MOST_TASKS)
        elif took > _SLOW:
            self._window = max(self._window * 0.98, 2 * self.workers)
        return work

    def forget(self, key: int) -> None:
        """Tells the node that there are no more tasks with that definition."""
        if key in self._known:
            self._known.discard(key)
            self.tell("forget", key)

    def drop(self, key: int) -> None:
        """Gives up all tasks with that definition, if any were sent, and tells the node to do so."""
        dropped = [name for name in self.sent if name[0] == key]
        for name in dropped:
            self._bytes -= self.sent.pop(name).bytes
        if dropped:
            self._known.discard(key)
            self.tell("cancel", key)

    # --- in the loop ---

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    def end(self, why: str) -> None:
        """Ends the connection, and so all that the node runs for this pool."""
        if self.ended is None:
            self.ended = why
            if self._comm is not None:
                self._comm.abort()
            if self._task is not None:
                self._task.cancel()

    def leave(self, why: str) -> None:
        """The node leaves the cluster in good order: it returns what has not begun, and closes the connection."""
        self.leaving = True
        asyncio.get_running_loop().call_later(_TO_LEAVE, self.end, why)

    async def _run(self) -> None:
        helpers = []
        why = "has closed the connection"
        try:
            self._comm = await self._engine.members.connect(self.node)
            hello = self._engine.hello(self)
            try:
                await self._comm.write({"op": HANDLER, "reply": False, **hello})
            except OSError:
                raise
            except Exception as error:  # no other node would do better
                why = f"cannot be sent the options of the pool: {type(error).__name__}: {error}"
                self._engine.lost(error)
                return
            self._heard = time.monotonic()
            self.connected = True
            helpers = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._listen(hello["beat"]))]
            while self.ended is None:
                messages = await self._comm.read()
                self._heard = time.monotonic()
                if messages[-1][0] == "bye":
                    self.ended = "has ended the pool"
                self._engine.heard(self, messages)
        except OSError as error:  # CommClosedError is one
            if self._comm is None:
                why = f"cannot be reached from here: {error}"
        except asyncio.CancelledError:
            pass
        finally:
            for helper in helpers:
                helper.cancel()
            if self._comm is not None:
                self._comm.abort()
            self.ended = self.ended or why
            self.connected = False
            self._engine.unlinked(self)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._engine.condition:
                self._woken = False
                out, self._out = self._out, []
            try:
                await self._comm.write(packed(out))
            except OSError:  # the reader is told, too
                return
            except Exception as error:
                self.end(f"cannot be sent a message: {type(error).__name__}: {error}")
                return

    async def _listen(self, beat: float) -> None:
        """Ends the connection if the node is silent for too long: it is stopped, or the network is cut."""
        limit = self._engine.members.node_timeout
        while True:
            if await held_up(beat):
                self._heard = time.monotonic()
            silent = time.monotonic() - self._heard
            if silent > limit:
                self.end(f"has been silent for {silent:.1f} seconds")
