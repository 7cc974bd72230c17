"""The agent of pools in the process of a node, which is a Dask worker.

For each pool of a client there is one connection and one `procession.Pool`, whose workers run the program's functions.
What belongs to the program goes through this process as bytes: it is unpickled in the workers only, so neither a
function nor an argument can harm the node. When the connection ends, for whatever reason, the pool is ended with all
that it runs. So calls of a client that has died end.

The agent runs in the loop of the Dask worker; making and ending a pool, which take time, in threads.

Messages to the node: `(kind, ...)`, in lists.

    define  key, definition, starred, timeout             a function of many tasks; None for `timeout`: without limit
    items   key, number, many, pickle, *buffers           a task of it; `number` is the index of its first item
    call    key, definition, timeout, pickle, *buffers    a single call
    keep    digest, buffer                                data of several tasks, whose messages name it: (digest,)
    drop    digest                                        there are no more tasks with that data
    cancel  key                                           a single call, or all tasks of a function
    forget  key                                           there are no more tasks of that function
    quiet                                                 the answer to `leaving`: no more tasks come
    gone                                                  the answer to `left`: all has arrived
    ask     number                                        for statistics
    close   whether tasks that are not done are given up

Messages from it:

    ready   number of workers
    done    key, number, pickle, *buffers                 `number` is 0 for a single call
    failed  key, number, outcome                          as `_pool.errors.error_of` takes it
    told    number, rows                                  the statistics
    leaving                                               the node leaves the cluster, and takes no more tasks
    left                                                  the node has answered all tasks
    return  key, number                                   a task that has not begun, as the node leaves the cluster
    broken  outcome                                       the workers cannot be started
    alive                                                 every few seconds
    bye                                                   the pool has ended
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from functools import partial

from . import uploads, worker
from .frames import packed
from .sync import relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HANDLER", "Agent", "install"]

HANDLER = "procession_pool"  # the name of our handler among those of a Dask worker


_ANSWERS = ("done", "failed", "return")
_TO_LEAVE = 10.0  # seconds for calls that run on a node that leaves the cluster in good order


async def install(client: str, dask_worker: Any) -> dict[str, Any]:
    """Prepares a Dask worker for the pools of a client, in its process. Returns what the client needs to know of it."""
    from distributed import WorkerPlugin
    from distributed.core import Status

    agents: weakref.WeakSet[Agent] = weakref.WeakSet()

    async def serve(comm: Any, **hello: Any) -> Any:
        agent = Agent(dask_worker, comm, hello)
        agents.add(agent)
        await agent.run()
        return Status.dont_reply

    async def leave() -> None:
        await asyncio.gather(*(agent.leave() for agent in list(agents)))

    uploads.prepare(client, dask_worker)
    await relay.of_worker(dask_worker)
    if HANDLER not in dask_worker.handlers:
        dask_worker.handlers[HANDLER] = serve
        plugin = WorkerPlugin()
        plugin.teardown = lambda worker: leave()  # type: ignore[method-assign]
        await dask_worker.plugin_add(plugin, HANDLER)
    return {"name": str(dask_worker.name), "cores": dask_worker.state.nthreads, "pid": os.getpid()}


class Agent:
    """One pool of one client on this node."""

    def __init__(self, dask_worker: Any, comm: Any, hello: dict[str, Any]) -> None:
        self._dask_worker = dask_worker
        self._comm = comm
        self._hello = hello
        self._node: str = hello["node"]
        self._pool: Any = None
        self._groups: dict[int, Any] = {}
        self._tasks: dict[int, Any] = {}
        self._kept: dict[bytes, Any] = {}  # by digest
        # tasks for which the pool had no room yet
        self._later: deque[tuple[Any, ...]] = deque()
        self._out: list[tuple[Any, ...]] = []
        self._owed: set[tuple[int, int]] = set()  # the tasks that were received and not answered: (key, number)
        self._lock = threading.Lock()  # guards these two
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._closing = False
        self._leaving = self._quiet = self._gone = False

    # --- the connection ---

    async def run(self) -> None:
        """Serves the pool until the connection ends or the client closes the pool."""
        from distributed.comm.core import CommClosedError

        tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._beat())]
        try:
            try:
                self._pool = await asyncio.to_thread(self._make_pool)
            except Exception as error:
                why = worker.described(error, self._node, None)
                await self._comm.write(packed([("broken", why)]))
                return
            self._say(("ready", self._hello["workers"]))
            while not self._closing:
                for message in await self._comm.read():
                    self._take(*message)
            await asyncio.to_thread(self._pool.join)
            tasks[0].cancel()
            await self._comm.write(packed([*self._out, ("bye",)]))
        except (CommClosedError, OSError):
            pass  # the client has gone, or this node is shutting down
        finally:
            for task in tasks:
                task.cancel()
            if self._pool is not None:
                # Not awaited: this coroutine may be cancelled because the node ends.
                end = asyncio.get_running_loop().run_in_executor(None, self._pool.terminate)
                await asyncio.shield(end)
            await self._comm.close()  # whatever has happened: the client notices it at once

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._hello["beat"])
            self._say(("alive",))

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            with self._lock:
                self._woken = False
                out, self._out = self._out, []
            if not out:  # it went with another message
                continue
            try:
                await self._comm.write(packed(out))
            except Exception:
                self._comm.abort()  # the client notices it at once
                raise

    def _say(self, *messages: tuple[Any, ...]) -> None:
        """Sends messages; from any thread."""
        with self._lock:
            self._out.extend(messages)
            self._owed.difference_update(m[1:3] for m in messages if m[0] in _ANSWERS)
            if self._woken:
                return
            self._woken = True
        self._loop.call_soon_threadsafe(self._wake.set)

    async def leave(self) -> None:
        """Returns the tasks that have not begun, and waits for the others: the node leaves the cluster."""
        self._leaving = True
        if self._pool is None:
            return
        self._say(("leaving",))
        self._say(*(("return", message[1], _number_in(message)) for message in self._later))
        self._later.clear()
        for group in list(self._groups.values()):
            group.cancel(False)
        for task in list(self._tasks.values()):
            task.cancel(False)
        limit = self._loop.time() + _TO_LEAVE
        while not self._is_done() and not self._comm.closed() and self._loop.time() < limit:
            await asyncio.sleep(0.02)
        # What was written may still be in a buffer of this process, which the end of the node would discard.
        self._say(("left",))
        while not self._gone and not self._comm.closed() and self._loop.time() < limit:
            await asyncio.sleep(0.02)

    def _is_done(self) -> bool:
        """Returns whether the client has, or is sent back, all that it has sent."""
        return self._quiet and not self._owed

    # --- the pool ---

    def _make_pool(self) -> Any:
        from ..context import _context_of
        from ..pool import Pool

        hello = self._hello
        init = [bytes(part) for part in hello["init"] or ()]
        return Pool(
            hello["workers"],
            worker.begin,
            (
                init,
                self._node,
                uploads.folder_of(hello["client"], self._dask_worker),
                relay.address_of(self._dask_worker),
            ),
            hello["most"],
            _context_of("forkserver"),
            worker_memory_limit=hello["memory"],
            inner_threads=hello["threads"],
            **hello["more"],
            name=hello["label"],
        )

    def _tell_broken(self) -> None:
        why = self._pool._supervisor.broken
        if isinstance(why, worker.InitializerFailed):
            self._say(("broken", why.args[0]))
        else:
            self._say(("broken", worker.described(why, self._node, None)))

    def _take(self, kind: str, *rest: Any) -> None:
        if kind == "items" or kind == "call":
            rest = tuple(self._kept[part[0]] if type(part) is tuple else part for part in rest)
            name = rest[0], _number_in((kind, *rest))
            with self._lock:
                self._owed.add(name)
            if self._leaving:
                self._say(("return", *name))
            elif self._later or not self._submitted(kind, *rest):
                self._later.append((kind, *rest))
        elif kind == "keep":
            self._kept[rest[0]] = rest[1]
        elif kind == "drop":
            self._kept.pop(rest[0], None)
        elif kind == "define":
            self._define(*rest)
        elif kind == "cancel":
            self._cancel(*rest)
        elif kind == "forget":
            self._forget(*rest)
        elif kind == "quiet":
            self._quiet = True
        elif kind == "gone":
            self._gone = True
        elif kind == "ask":
            rows = [tuple(row) for row in self._pool.statistics()]
            self._say(("told", rest[0], rows))
        elif kind == "close":
            self._closing = True
            for key in list(self._groups):
                self._forget(key)
            if rest[0]:
                self._pool.terminate()
            else:
                self._pool.close()

    def _define(self, key: int, definition: Any, starred: bool, timeout: float | None) -> None:
        function = partial(worker.run_items, bytes(definition), self._node, starred)
        group = self._pool._engine.group(function, False, timeout, 0, False)
        group.feeding(True)
        self._groups[key] = group
        watch = self._pool._supervisor
        with watch.lock:
            watch.watched[True, group.id] = partial(self._collect, key, group)
        group.report()

    def _submitted(self, kind: str, *rest: Any) -> bool:
        """Submits a task to the pool. Returns False if it has no room."""
        engine = self._pool._engine
        try:
            if kind == "items":
                key, number, many, pickled, *buffers = rest
                group = self._groups.get(key)
                if group is None:  # it was cancelled
                    with self._lock:
                        self._owed.discard((key, number))
                    return True
                item = (many, pickled, *worker.frames_of(buffers))
                read, _, _, error = group.feed(iter([item]), 1, 1, number)
                if error is not None:
                    raise error[0]
                return bool(read)
            key, definition, timeout, pickled, *buffers = rest
            args = bytes(definition), self._node, pickled, worker.frames_of(buffers)
            watch = self._pool._supervisor
            with watch.lock:
                task = engine.submit(worker.run_call, args, {}, timeout, 0, True)
                if task is None:
                    return False
                self._tasks[key] = task
                watch.watched[False, task.id] = partial(self._done, key, task)
        except Exception as error:  # the pool is broken or no memory is left
            if engine.phase == "broken":
                self._tell_broken()
            else:
                number = _number_in((kind, *rest))
                self._say(("failed", rest[0], number, worker.described(error, self._node, None)))
        return True

    def _cancel(self, key: int) -> None:
        self._later = deque(message for message in self._later if message[1] != key)
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
        self._forget(key, True)

    def _forget(self, key: int, kill: bool = False) -> None:
        with self._lock:
            self._owed = {name for name in self._owed if name[0] != key}
        group = self._groups.pop(key, None)
        if group is None:
            return
        self._pool._supervisor.forget((True, group.id))
        if kill:
            group.forget()
            group.cancel()
        group.feeding(False)

    # --- in the thread of the pool's supervisor ---

    def _collect(self, key: int, group: Any) -> None:
        come: deque[tuple[int, bool, Any]] = deque()
        group.collect_into(come, 0)
        if come:
            self._say(*(self._reply(key, number, success, value) for number, success, value in come))
            self._go_on()

    def _done(self, key: int, task: Any) -> None:
        self._tasks.pop(key, None)
        told = task.take()
        if told is not None:
            self._say(self._reply(key, 0, *told))
            self._go_on()

    def _reply(self, key: int, number: int, success: bool, value: Any) -> tuple[Any, ...]:
        if success:
            fine, *parts = value
            return ("done", key, number, *parts) if fine else ("failed", key, number, parts[0])
        if value[0] == "cancelled" and self._leaving:
            return "return", key, number
        if value[0] == "abandoned" and self._pool._engine.phase == "broken":
            self._tell_broken()
        elif value[0] == "unreadable":
            value = worker.described(value[1], self._node, None)
        return "failed", key, number, value

    def _go_on(self) -> None:
        """Submits what had no room."""
        if self._later:
            self._loop.call_soon_threadsafe(self._submit_later)

    def _submit_later(self) -> None:
        while self._later and self._submitted(*self._later[0]):
            self._later.popleft()


def _number_in(message: tuple[Any, ...]) -> int:
    """Returns the number of the task that a message brings."""
    return message[2] if message[0] == "items" else 0
