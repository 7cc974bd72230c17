"""The objects of a cluster, and the calls of processes that wait for them. Runs in Dask's scheduler.

The hub does no I/O, has no clock of its own and imports nothing of Dask. It is told what processes ask and which
processes have ended, and gives answers through the function `send` of its constructor. All calls come from one thread.

A request has an *owner*, which is a thread of a process, and a *number*, which that owner uses once; the number 0 is
for requests without an answer. Each other request gets exactly one answer, now or later. An answer is a list, whose
first element says what it is:

    ["ok", value]                             the result of the call: plain data
    ["cancelled"]                             `cancel` came before the result; the call has had no effect
    ["gone"]                                  there is no such object
    ["error", class, text]                    the name of a built-in exception, which the caller raises
    ["died", pid, process, node, exit code]   the holder of the lock has died: OwnerDiedError. May have more elements
    ["lost", text]                            for a queue: MessageLostError

Values in requests and answers are those that msgpack packs: None, bool, int, float, str, bytes, lists. The hub
unpickles nothing.

Timeouts are kept by the callers: at its deadline a caller cancels its request, and takes the answer that comes.

Each kind of object is a class derived from `Object`; the module `kinds` lists them. The request "make" of the object 0
makes one, with the arguments [kind, name, ...]. The request "facts" of any object answers what `facts_of` returns.

References: a process *holds* an object from the time when it makes or unpickles a handle until it has no handle any
more. A process that has *sent* (pickled) a handle keeps the object until it ends, since a pickle may be unpickled at
any time and more than once. If such a process ends, its node keeps the object until the next process holds it, or the
node or the maker's one ends: a result may be on its way. An object goes when nothing keeps it.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["Hub", "Object", "Owner", "Process"]


class Owner(NamedTuple):
    """A thread of a process. `node`: the address of a node, or the id of a client. `process`: a number that no other
    process of that node ever gets. `thread`: a number that no other thread of that process ever gets."""

    node: str
    process: int
    thread: int


class Process:
    """A process that is connected."""

    __slots__ = ("name", "node", "node_name", "number", "objects", "pid", "threads")

    def __init__(self, node: str, number: int, pid: int, name: str, node_name: str) -> None:
        self.node = node
        self.number = number
        self.pid = pid
        self.name = name
        self.node_name = node_name
        self.objects: set[int] = set()  # the objects that it has used or referred to
        self.threads: dict[int, int] = {}  # the result of threading.get_ident() by `Owner.thread`


class Object:
    """The base class of all kinds. A method that the kind does not need may stay as it is here.

    `request` either answers at once or keeps (owner, number) and answers later: with `self.hub.answer(owner, number,
    value)`, or `self.hub.fail(owner, number, kind, *details)`. A request that waits must be in the object, so that
    `cancel` and `ended` find it.
    """

    kind = ""

    def __init__(self, hub: Hub, number: int, name: str | None, *args: Any) -> None:
        """args: those of the request "make". An exception (ValueError, TypeError) is raised by the caller."""
        self.hub = hub
        self.number = number
        self.name = name
        self.kept_by: Counter[tuple[str, int]] = Counter()  # the handles of processes that hold it
        self.sent_by: set[tuple[str, int]] = set()  # processes that have sent it
        self.on_its_way: set[str] = set()  # nodes of processes that have sent it and have ended
        self.maker = ""  # the node or client of the process that has made it
        # For `facts`.
        self.acquisitions = self.contended = 0
        self.total_wait = 0.0  # seconds

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        """Does what a process asks."""
        raise NotImplementedError

    def cancel(self, owner: Owner, number: int) -> bool:
        """Removes a request that waits. Returns whether it did; the hub then answers ["cancelled"].

        False: the object answers the request itself, now or later.
        """
        return False

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        """Notes that a process has ended: removes its requests that wait, and gives up what it held. No answer goes to
        it any more."""

    def node_ends(self, node: str) -> None:
        """Notes that a node has ended. `ended` is called for each of its processes after this."""

    def node_ended(self, node: str) -> None:
        """Notes that a node has ended, after all its processes."""

    def keys_of(self, process: tuple[str, int]) -> list[Any]:
        """Returns the keys of the data that a process has left with its relay for this object."""
        return []

    def gone(self) -> None:
        """Nothing refers to the object any more."""

    def waiters(self) -> list[tuple[Owner, str]]:
        """Returns whose requests wait, and for what ("acquire", "notification", ...)."""
        return []

    def holders(self) -> list[Owner]:
        """Returns who may end the wait of the waiters; empty: that cannot be known."""
        return []

    def facts(self) -> dict[str, Any]:
        """Returns further facts for people: plain data."""
        return {}


class Hub:
    """All objects of a cluster."""

    def __init__(
        self,
        send: Callable[[Owner, int, list[Any]], None],
        kinds: Mapping[str, type[Object]],
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str, list[Any]], None] = lambda node, message: None,
    ) -> None:
        """send: sends an answer, (owner, number, answer). kinds: the classes by their `kind`. clock: only for the
        statistics of waits. tell: sends a message to the relay of a node, (node, message)."""
        self.clock = clock
        self.objects: dict[int, Object] = {}
        self.processes: dict[tuple[str, int], Process] = {}
        self.tell = tell
        self._send = send
        self._kinds = kinds
        self._last = 0
        # requests without an answer: the object, when they came, whether their wait has a limit
        self._open: dict[tuple[Owner, int], tuple[Object | None, float, int]] = {}

    # --- what objects call ---

    def answer(self, owner: Owner, number: int, value: Any = None) -> None:
        """Answers a request with a result. Does nothing if the process has ended."""
        self._reply(owner, number, ["ok", value])

    def fail(self, owner: Owner, number: int, kind: str, *details: Any) -> None:
        """Answers a request with something else: see the module. `fail(owner, number, "error", "ValueError", text)`."""
        self._reply(owner, number, [kind, *details])

    def lives(self, owner: Owner) -> bool:
        """Returns whether the process has not ended."""
        return owner[:2] in self.processes

    def waited(self, owner: Owner, number: int) -> float:
        """Returns for how many seconds a request has been waiting; 0.0 if it has been answered."""
        found = self._open.get((owner, number))
        return 0.0 if found is None else self.clock() - found[1]

    def described(self, owner: Owner) -> list[Any]:
        """Returns [pid, thread, name of the process, name of the node] for people; pid 0: it has ended."""
        found = self.processes.get(owner[:2])
        if found is None:
            return [0, 0, "", ""]
        return [found.pid, found.threads.get(owner.thread, 0), found.name, found.node_name]

    def keep(self, object_number: int, keeper: tuple[str, int]) -> None:
        """Notes that an object is kept by another one, which refers to it or has a message with its handle."""
        found = self.objects.get(object_number)
        if found is not None:
            found.kept_by[keeper] += 1

    def let_go(self, object_number: int, keeper: tuple[str, int]) -> None:
        """Ends what `keep` has begun."""
        found = self.objects.get(object_number)
        if found is not None:
            self._let_go(found, keeper)

    # --- what the scheduler tells ---

    def process_began(self, node: str, process: int, pid: int = 0, name: str = "", node_name: str = "") -> None:
        """Notes a process. Its requests come after this."""
        self.processes[node, process] = Process(node, process, pid, name, node_name)

    def request(
        self, owner: Owner, number: int, object_number: int, op: str, args: list[Any], limited: int = False
    ) -> None:
        """Does what a thread asks of an object. limited: whether it cancels the request after some time; see `wire`."""
        process = self.processes.get(owner[:2])
        if process is None:  # its end was told already
            return
        if op == "make" and object_number == 0:
            self._open[owner, number] = None, self.clock(), False
            self._make(owner, number, *args)
            return
        found = self.objects.get(object_number)
        if number:
            self._open[owner, number] = found, self.clock(), limited
        if found is None:
            self.fail(owner, number, "gone")
            return
        process.objects.add(object_number)
        if op == "facts":
            self.answer(owner, number, self.facts_of(found))
            return
        try:
            found.request(owner, number, op, args)
        except Exception as error:  # an argument of the wrong kind; the hub goes on
            self.fail(owner, number, "error", type(error).__name__, str(error))

    def cancel(self, owner: Owner, number: int) -> None:
        """Cancels a request: it is answered ["cancelled"], unless it has or will have another answer."""
        found = self._open.get((owner, number))
        if found is not None and found[0] is not None and found[0].cancel(owner, number):
            self._reply(owner, number, ["cancelled"])

    def refer(self, process: tuple[str, int], what: str, object_number: int) -> None:
        """Notes that a process has another handle ("held") or one less ("dropped"), or has pickled one ("sent")."""
        found, known = self.objects.get(object_number), self.processes.get(process)
        if found is None or known is None:
            return
        known.objects.add(object_number)
        if what == "held":
            found.kept_by[process] += 1
            if not found.kept_by[process]:  # "dropped" came before it
                del found.kept_by[process]
                self._drop_unused(found)
            found.on_its_way.clear()
        elif what == "sent":
            found.sent_by.add(process)
        elif what == "dropped":
            self._let_go(found, process)

    def process_ended(self, node: str, process: int, exitcode: int | None = None) -> None:
        """Ends what a process held and waited for. exitcode: -N: killed by signal N; None: that cannot be known."""
        facts = self.processes.pop((node, process), None)
        if facts is None:
            return
        name = node, process
        touched = [self.objects[each] for each in facts.objects if each in self.objects]
        for key in [key for key in self._open if key[0][:2] == name]:
            del self._open[key]
        for found in touched:
            found.ended(name, facts, exitcode)
        # The relay drops what the process has left there, and what came into no object.
        self.tell(node, ["ended", process, [key for found in touched for key in found.keys_of(name)]])
        for found in touched:
            del found.kept_by[name]
            if name in found.sent_by:
                found.sent_by.discard(name)
                found.on_its_way.add(node)
            self._drop_unused(found)

    def node_ended(self, node: str) -> None:
        """Ends what all processes of a node held and waited for."""
        for found in list(self.objects.values()):
            found.node_ends(node)
        for each in [process for where, process in self.processes if where == node]:
            self.process_ended(node, each)
        for found in list(self.objects.values()):
            found.node_ended(node)
            if node == found.maker:  # mostly a client, to which results would be on their way
                found.on_its_way.clear()
            found.on_its_way.discard(node)
            self._drop_unused(found)
        self._drop_cycles()

    # --- for people ---

    def facts(self) -> dict[str, Any]:
        """Returns all objects, with who waits for whom: plain data, for `procession why --cluster`."""
        return {
            "processes": [[*name, each.pid, each.name, each.node_name] for name, each in self.processes.items()],
            "objects": [self.facts_of(each) for each in self.objects.values()],
        }

    def facts_of(self, found: Object) -> dict[str, Any]:
        """Returns the facts of one object.

        A thread is a list [node, process, thread, pid, thread for people, name of the process, name of the node]; of a
        waiter follow: what it waits for, for how many seconds, and whether its wait has a limit (see `wire`).
        """
        now = self.clock()
        waits = {key[0]: (now - since, limited) for key, (of, since, limited) in self._open.items() if of is found}
        return {
            "object": found.number,
            "kind": found.kind,
            "name": found.name,
            "waiters": [
                [*owner, *self.described(owner), what, *waits.get(owner, (0.0, False))]
                for owner, what in found.waiters()
            ],
            "holders": [[*owner, *self.described(owner)] for owner in found.holders()],
            "acquisitions": found.acquisitions,
            "contended": found.contended,
            "total_wait": found.total_wait,
            **found.facts(),
        }

    # --- inside ---

    def _make(self, owner: Owner, number: int, kind: str, name: str | None, *args: Any) -> None:
        self._last += 1
        try:
            made = self._kinds[kind](self, self._last, name, *args)
        except Exception as error:
            self.fail(owner, number, "error", type(error).__name__, str(error))
            return
        self.objects[self._last] = made
        made.kept_by[owner[:2]] += 1
        made.maker = owner.node
        self.processes[owner[:2]].objects.add(self._last)
        self.answer(owner, number, self._last)

    def _reply(self, owner: Owner, number: int, answer: list[Any]) -> None:
        if self._open.pop((owner, number), None) is not None:
            self._send(owner, number, answer)

    def _let_go(self, found: Object, process: tuple[str, int]) -> None:
        found.kept_by[process] -= 1
        if not found.kept_by[process]:  # less than 0: "held" is still on its way, through another connection
            del found.kept_by[process]
            self._drop_unused(found)

    def _drop_unused(self, found: Object) -> None:
        if found.kept_by or found.sent_by or found.on_its_way or self.objects.pop(found.number, None) is None:
            return
        for process in self.processes.values():
            process.objects.discard(found.number)
        found.gone()

    def _drop_cycles(self) -> None:
        """Drops objects that only messages in each other keep."""
        living: set[int] = set()
        found = [
            each
            for each in self.objects.values()
            if each.sent_by or each.on_its_way or any(node for node, _ in each.kept_by)
        ]
        while found:
            living.update(each.number for each in found)
            found = [
                each
                for each in self.objects.values()
                if each.number not in living and any(number in living for _, number in each.kept_by)
            ]
        for number in set(self.objects) - living:
            dropped = self.objects.pop(number, None)
            if dropped is not None:
                dropped.kept_by.clear()
                for process in self.processes.values():
                    process.objects.discard(number)
                dropped.gone()
