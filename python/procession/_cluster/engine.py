"""The engine of a pool over a cluster: which task goes to which node, and what becomes of the tasks of a dead node.

Tasks wait here until a link has room. What was sent to a node is kept until its outcome has come. If the node dies
before that, the task may have run there: it is run again only if its `retries` allow that, and fails with
`NodeDiedError` otherwise.

The condition guards all state. Programs call from any thread; links and members call in the thread of Dask's loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque

from .._pool.errors import NodeDiedError, PoolBrokenError, error_of
from .._pool.thread_engine import ThreadEngine
from . import pickling
from .common import Seen, own
from .frames import packed, safe, size
from .groups import ClusterGroup, ClusterTask
from .link import Link
from .share import plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .groups import Work
    from .members import Members, Node

__all__ = ["ClusterEngine"]

_MOST_WAITING = 1 << 16  # tasks
_MOST_BYTES = 128 << 20  # of the tasks that are not done
_AFTER = 0.25  # seconds from the end of a node to the decision about its tasks
_TO_END = 5.0  # seconds for nodes to end their pools

# of the options of nodes, for errors
_NAMES = {
    "processes": "processes",
    "most": "maxtasksperchild",
    "memory": "worker_memory_limit",
    "threads": "inner_threads",
}

# The outcomes of a node after which a task is not run again. All others say how a worker ended that ran it.
_NO_DEATHS = frozenset(("raised", "exception", "unsendable", "unreadable", "cancelled", "abandoned", "timeout"))


class ClusterEngine(ThreadEngine):
    """The tasks of a pool, and its links to the nodes."""

    reports = None  # nodes do not share memory
    kind = "a pool over a cluster"
    workers_die = has_signals = True

    def __init__(self, members: Members, options: dict[str, Any]) -> None:
        """options: of the workers: `processes` (None: one per core), `initializer`, `initargs` and others."""
        super().__init__(0)
        self.members = members
        self.pid = os.getpid()
        self.queue: deque[Work] = deque()  # type: ignore[assignment]
        self.links: dict[str, Link] = {}
        self._why: BaseException | tuple[Any, ...] | None = None  # what broke it; of an initializer: its outcome
        # called with the number of workers when that has changed
        self.resized: Callable[[int], object] = lambda count: None
        self.over = threading.Event()  # all links have ended
        for name, value in options.items():
            if type(value) is int and value >= 1 << 63:
                raise ValueError(f"{_NAMES[name]} must be below 2**63, not {value}")
        self._processes: int | None = options["processes"]
        self._options = options
        init = options["initializer"], tuple(options["initargs"])
        self._init = None
        if init[0] is not None:
            pickled, buffers = pickling.dumps(init)
            self._init = [pickled, *map(own, buffers)]
        self.seen = Seen()
        self._bytes = 0
        self._bare: float | None = None  # since when work waits without a node
        self._name: str | None = None
        self._asked: dict[int, tuple[threading.Event, list[Any]]] = {}
        self._questions = 0

    def _label(self, name: str) -> None:
        self._name = name

    def describer(self) -> Callable[..., Any]:
        from .worker import described_item

        return described_item

    # --- calls ---

    def submit(  # type: ignore[override]  # None: there is no room
        self,
        function: Callable[..., Any],
        args: Iterable[Any] = (),
        keywords: Any = None,
        timeout: float | None = None,
        retries: int = 0,
        report: bool = False,
        priority: int = 0,
    ) -> ClusterTask | None:
        self.check_process()
        if not self.has_room():
            return None
        data = pickling.dumps_whole(function)
        pickled, buffers = pickling.dumps((tuple(args), dict(keywords or {})))
        task = ClusterTask(self, function, [pickled, *self.seen.marked(buffers)], data, timeout, retries, report)
        self.put_all([task._work])  # type: ignore[list-item]
        return task

    def call(self, function: Callable[..., Any], args: Iterable[Any], keywords: Any = None) -> tuple[bool, Any]:
        task = self.submit(function, args, keywords)
        while task is None:
            self.wait_for_room()
            task = self.submit(function, args, keywords)
        try:
            task.wait()
        except BaseException:  # Ctrl-C: the caller has nothing to cancel
            task.cancel()
            raise
        outcome = task.take()
        assert outcome is not None
        return outcome

    def group(
        self,
        function: Callable[..., Any],
        starred: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        report: bool = False,
        priority: int = 0,
    ) -> ClusterGroup:
        self.check_process()
        return ClusterGroup(self, function, starred, timeout, retries, report)

    def resize(self, workers: int) -> None:
        raise ValueError("a pool over a cluster has the workers of its nodes: it cannot be resized")

    def check_process(self) -> None:
        """RuntimeError: this is a forked child, which has no connections of its own."""
        if os.getpid() != self.pid:
            raise RuntimeError("a pool can be used only by the process that made it: make another one here")

    def has_room(self) -> bool:
        return not self._bytes or (self._bytes < _MOST_BYTES and len(self.queue) < _MOST_WAITING)

    def wait_for_room(self, timeout: float | None = None) -> bool:
        with self.condition:
            return self.condition.wait_for(lambda: self.has_room() or self.phase not in ("open", "closing"), timeout)

    def put_all(self, works: list[Work]) -> None:
        """Takes tasks."""
        with self.condition:
            taken = self.phase == "open" or (self.phase == "closing" and self._open)
            if taken:
                self._unfinished.update(works)  # type: ignore[arg-type]
                self.queue.extend(works)
                self._bytes += sum(work.bytes for work in works)
                self._dispatch()
        if not taken:
            for work in works:
                work.done(False, ("abandoned",))

    def _dispatch(self) -> None:
        """Sends tasks to the nodes that have room. The caller holds the condition."""
        queue = self.queue
        while queue:
            if queue[0].state != "waiting":
                queue.popleft()
                continue
            link, least = None, 0.0
            for other in self.links.values():
                if other.has_room() and (link is None or other.load() < least):
                    link, least = other, other.load()
            if link is None:
                return
            work = queue.popleft()
            work.state = "sent"
            link.send(work)

    def _settle(self, work: Work, success: bool, value: Any) -> None:
        """Gives an outcome to a task that is not done. The caller holds the condition."""
        if work.state in ("done", "withdrawn"):
            return
        work.state = "done"
        self._unfinished.discard(work)
        self._bytes -= work.bytes
        work.parts = []
        work.done(success, value)

    def give_up(self, work: Work, kill: bool, tell: bool = True) -> bool:
        """Cancels a task. kill: also one that was sent to a node. tell: tells the node. Returns whether it did."""
        with self.condition:
            if work.state == "sent" and kill:
                if tell:
                    self.drop(work.definition.key)
            elif work.state != "waiting":
                return False
            self._settle(work, False, ("cancelled",))
            self._end_if_done()
        return True

    def cancel_all(self, kill: bool = False) -> int:
        with self.condition:
            return self.give_up_all(list(self._unfinished), kill)  # type: ignore[arg-type]

    def give_up_all(self, works: list[Work], kill: bool) -> int:
        """Cancels tasks. Returns how many. The caller holds the condition."""
        if kill:  # the nodes first: they would keep what runs if they were told before to forget the function
            for key in {work.definition.key for work in works if work.state == "sent"}:
                self.drop(key)
        return sum(self.give_up(work, kill, False) for work in works)

    def drop(self, key: int) -> None:
        """Tells the nodes to give up the tasks with a definition. The caller holds the condition."""
        for link in self.links.values():
            link.drop(key)

    def forget(self, key: int) -> None:
        """Tells the nodes that there are no more tasks with a definition. The caller holds the condition."""
        for link in self.links.values():
            link.forget(key)

    # --- from the links, in the loop ---

    def soon(self, call: Callable[[], object]) -> None:
        """Calls a function in the thread of Dask's loop."""
        self.members.soon(call)

    def hello(self, link: Link) -> dict[str, Any]:
        """Returns what a node needs to make its pool."""
        options = self._options
        init = None if self._init is None else packed([tuple(self._init)])[0]
        return {
            "node": safe(link.node.name),
            "client": self.members.key,
            "workers": link.workers,
            "init": init,
            "most": options["most"],
            "memory": options["memory"],
            "threads": options["threads"],
            "more": options["more"],
            "label": safe(self._name),
            "beat": min(1.0, self.members.node_timeout / 4),
        }

    def heard(self, link: Link, messages: Iterable[tuple[Any, ...]]) -> None:
        """Takes what a node has sent."""
        with self.condition:
            for kind, *rest in messages:
                if kind == "done":
                    key, number, *parts = rest
                    work = link.settled(key, number, size(parts))
                    if work is not None:
                        self._settle(work, True, parts)
                elif kind == "failed":
                    key, number, what = rest
                    if what[0] in ("abandoned", "cancelled"):  # the end of the pool there follows
                        continue
                    work = link.settled(key, number, 0)
                    if work is None:
                        continue
                    if what[0] not in _NO_DEATHS and work.again():
                        work.state = "waiting"
                        self.queue.appendleft(work)
                        continue
                    self._settle(work, False, self._failure(link, work, what))
                elif kind == "leaving":
                    link.leaving = True
                    link.tell("quiet")
                elif kind == "left":
                    link.tell("gone")
                elif kind == "return":
                    work = link.settled(rest[0], rest[1], 0)
                    link.leaving = True
                    if work is not None and work.state == "sent":
                        work.state = "waiting"
                        self.queue.appendleft(work)
                elif kind == "ready":
                    link.ready = True
                    self._bare = None
                    self._resize()
                elif kind == "told":
                    event, rows = self._asked.pop(rest[0], (None, []))
                    if event is not None:
                        rows.extend((link.node.name, row) for row in rest[1])
                        event.set()
                elif kind == "broken":
                    self._break(rest[0])
            self._dispatch()
            self._end_if_done()

    def _failure(self, link: Link, work: Work, what: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the outcome for a failure on a node; errors about its workers name the node."""
        if what[0] in ("raised", "unsendable"):
            return what
        if what[0] not in _NO_DEATHS:
            kind, pid, code, item, _, *facts = what
            what = (kind, pid, code, item, work.deaths + 1, *facts)
        error = error_of(what, work.owner.name, work.index, None)
        made: Any = error.__reduce__()
        text, *facts = made[1]
        return "exception", made[0](f"on node {link.node.name}: {text}", *facts)

    def unlinked(self, link: Link) -> None:
        """Takes the tasks of a link that has ended."""
        node = link.node
        with self.condition:
            if self.links.get(node.address) is link:
                del self.links[node.address]
            if self.phase in ("open", "closing"):  # it was not the program that has ended the connection
                self.members.rest(node)
            sent, link.sent = list(link.sent.values()), {}
            if sent and self.phase in ("open", "closing"):
                # If the scheduler dies, so do its nodes: it is the scheduler then that the program is told of.
                asyncio.get_running_loop().call_later(_AFTER, self._lost_with, link, sent)
            self._resize()
            if not self.links and self.phase not in ("open", "closing"):
                self.over.set()

    def _lost_with(self, link: Link, works: list[Work]) -> None:
        """Sends the tasks of a dead node again, or gives them up."""
        node = link.node
        with self.condition:
            if self.phase not in ("open", "closing"):
                return
            for work in reversed(works):
                if work.state != "sent":
                    continue
                if work.again():
                    work.state = "waiting"
                    self.queue.appendleft(work)
                    continue
                which = f"{work.owner.name}()" if work.index is None else f"task {work.index} ({work.owner.name})"
                text = f"node {node.name} ({node.address}) {link.ended} while it had {which}, which may have run there"
                facts = node.pid, None, work.owner.name, work.index, work.deaths + 1, node.name
                self._settle(work, False, ("exception", NodeDiedError(text, *facts)))
            self._dispatch()
            self._end_if_done()

    # --- nodes, in the loop ---

    def joined(self, node: Node) -> None:
        """Called by the members: there is a new node."""
        with self.condition:
            if self.phase in ("open", "closing"):
                self._link_new()

    def left(self, node: Node, why: str) -> None:
        """Called by the members: a node has gone."""
        link = self.links.get(node.address)
        if link is not None and node.leaves:
            link.leave(why)
        elif link is not None:
            link.end(why)

    def lost(self, error: BaseException) -> None:
        """Called by the members: the cluster is of no more use."""
        with self.condition:
            self._break(error)

    def _link_new(self) -> None:
        nodes = self.members.usable()
        has = {address: link.workers for address, link in self.links.items()}
        for address, workers in plan(self._processes, {a: node.cores for a, node in nodes.items()}, has).items():
            link = self.links[address] = Link(self, nodes[address], workers)
            link.start()

    def _resize(self) -> None:
        self.resized(sum(link.workers for link in self.links.values() if link.ready))
        self.condition.notify_all()

    async def watch(self) -> None:
        """Breaks the pool if work waits for too long without any node."""
        limit = self.members.node_timeout
        while self.phase in ("open", "closing"):
            with self.condition:
                self._link_new()
                if any(link.connected for link in self.links.values()) or not self._unfinished:
                    self._bare = None
                elif self._bare is None:
                    self._bare = time.monotonic()
                elif time.monotonic() - self._bare > limit:
                    self.break_without_nodes()
            await asyncio.sleep(min(0.2, limit / 4))

    # --- the end ---

    def break_without_nodes(self) -> None:
        """Breaks the pool. The caller holds the condition."""
        limit = self.members.node_timeout
        self._break(PoolBrokenError(f"the cluster at {self.members.address} has had no node for {limit:g} seconds"))

    def _break(self, why: BaseException | tuple[Any, ...]) -> None:
        if self.phase in ("open", "closing"):
            self._why = why
            self.terminate("broken")

    @property
    def broken(self) -> BaseException | None:
        """The error that broke the pool; None if it is not broken.

        That of an initializer is unpickled here, in a thread of the program: it may be of any class.
        """
        why = self._why
        if isinstance(why, tuple):
            error = error_of(why, "the initializer", None, None)
            with self.condition:
                if self._why is why:  # all threads get the same
                    self._why = error
                return self._why  # type: ignore[return-value]
        return why

    def _end_if_done(self) -> None:
        if self.phase == "closing" and not self.has_work():
            self.phase = "ending"
            self._close_links(False)

    def terminate(self, phase: str = "terminating") -> None:
        if os.getpid() != self.pid:  # a forked child has the sockets of its parent
            return
        with self.condition:
            if self.phase not in ("open", "closing"):
                return
            super().terminate(phase)
            self.queue.clear()
            self._bytes = 0
            self._close_links(True)
            self.condition.notify_all()

    def _close_links(self, give_up: bool) -> None:
        self.condition.notify_all()
        for link in self.links.values():
            if link.ready:
                link.tell("close", give_up)
            else:
                self.soon(lambda link=link: link.end("was not ready yet"))  # type: ignore[misc]
        if not self.links:
            self.over.set()

    def wait_for_end(self) -> None:
        """Waits until the nodes have ended their pools. Those that do not answer are left."""
        limit = None if self.phase == "ending" else _TO_END
        self.over.wait(limit)
        for link in list(self.links.values()):
            self.soon(lambda link=link: link.end("did not end the pool"))  # type: ignore[misc]

    # --- figures ---

    @property
    def waiting(self) -> int:
        with self.condition:
            return sum(work.state == "waiting" for work in self.queue)

    def ask_nodes(self, timeout: float) -> list[tuple[str, Any]]:
        """Returns the statistics of the workers of all nodes that answer in time: (name of the node, row)."""
        asked = []
        with self.condition:
            for link in self.links.values():
                if link.ready:
                    self._questions += 1
                    question: tuple[threading.Event, list[Any]] = threading.Event(), []
                    self._asked[self._questions] = question
                    asked.append((self._questions, question))
                    link.tell("ask", self._questions)
        limit = time.monotonic() + timeout
        found: list[tuple[str, Any]] = []
        for number, (event, rows) in asked:
            event.wait(max(0.0, limit - time.monotonic()))
            self._asked.pop(number, None)
            found += rows
        return found

    def statistics(self) -> list[Any]:
        return []
