"""The queue of a cluster, as the hub keeps it: what is in it, who waits, and what consumers are receiving.

A consumer that has been sent messages unpickles them and says `got` before its `get` returns. Until then the queue
keeps them as *handed*:

- The consumer's process dies: they go back to the front. Its `get` has not returned, so they are not seen twice. A
  message that went back is handed out alone the next time, and is dropped when that consumer dies as well: it may kill
  each process that unpickles it.
- The consumer's node dies: they are dropped. The word `got` may have been on its way, so they may have been seen.

A message that is too big for the scheduler stays with the relay of the node that put it (its *place*), and the queue
has its key alone: a number that its process has used once. When that node dies, the consumer is told in the turn of the
message that it is lost.

A message is sent as bytes (its pickle), or as a list:

    [bytes, ...]                    a pickle and its buffers
    [1, handles, bytes, ...]        the same, for a message in which there are handles of objects of the cluster
    [2, handles, size, key]         a big one, at the node of the process that puts it
    [3, size, place, process, key]  a big one, to its consumer
    [4, size, place]                one that is lost, to its consumer

The requests, and what is answered:

    put      whether to wait, messages  ["put" | "full" | "shutdown", the number of messages that are in the queue]
    get      whether to wait, most      ["items", messages, are there more, number of get] | ["empty"] | ["shutdown"]
    got      number of a get, held      nothing: all its messages have been received
    back     number of a get, skip, held
                                        nothing: its messages after the first `skip` go back, those have been received
    is_lost  number of a get, index     bool: the place of that message has died
    look                                [number of messages, their bytes, is it full, is it shut down, unfinished]
    done                                bool: there was an unfinished message
    join                                True, when no message is unfinished
    item                                True, when there is a message, or the queue is shut down
    shutdown at once                    True

These are the results in the answers of the hub. A request that is cancelled is answered as if it had not waited:
`["full", n]`, `["empty"]`, or False. `got` and `back` come as messages without an answer. held: the objects whose
handles were unpickled, one for each handle; it may be missing. The first `got` or `back` of a get counts, and further
ones have no effect: a process that was interrupted does not know whether it has sent one.
"""

from __future__ import annotations

from collections import deque
from operator import attrgetter

from .hub import Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .hub import Hub, Owner, Process

__all__ = ["Queue"]

_MOST_BYTES = 8 << 20  # bytes of an answer, unless its first message is bigger
_MOST_DEATHS = 2  # of consumers that were receiving a message, before it is dropped

_WITH_HANDLES, _AT_PLACE, _FETCH, _LOST = 1, 2, 3, 4


class _Message:
    __slots__ = ("body", "deaths", "handles", "key", "number", "putter", "size")

    def __init__(self, number: int, given: Any, putter: tuple[str, int]) -> None:
        self.number = number
        self.body: Any = given
        self.deaths = 0  # of consumers that were receiving it
        self.handles: list[Any] = []
        self.putter = putter
        self.key: Any = None  # of a big message at the node of its putter
        if type(given) is bytes:
            self.size = len(given)
            return
        if given[0] == _AT_PLACE:
            _, self.handles, self.size, self.key = given
            self.body = None
            return
        if given[0] == _WITH_HANDLES:
            self.handles, self.body = given[1], given[2:]
        self.size = sum(map(len, self.body))

    def sent(self) -> Any:
        """Returns it as its consumer is sent it."""
        if self.body is not None:
            return self.body
        return [_LOST, self.size, self.putter[0]] if self.key is None else [_FETCH, self.size, *self.putter, self.key]


class _Put:
    """A `put` that waits."""

    __slots__ = ("count", "left", "number", "owner")

    def __init__(self, owner: Owner, number: int, left: deque[Any], count: int) -> None:
        self.owner = owner
        self.number = number
        self.left = left
        self.count = count


_by_number = attrgetter("number")


class Queue(Object):
    """A queue, a joinable queue or a simple one: they differ in what the callers' side offers."""

    kind = "Queue"

    def __init__(self, hub: Hub, number: int, name: str | None, maxsize: int = 0, maxbytes: int = 0) -> None:
        """0: without limit."""
        super().__init__(hub, number, name)
        self._maxsize = maxsize
        self._maxbytes = maxbytes
        self._messages: deque[_Message] = deque()
        self._bytes = 0
        self._last = 0  # the number of the last message
        self._putters: deque[_Put] = deque()
        self._getters: dict[tuple[Owner, int], int] = {}  # the most that each wants; the first one came first
        self._lookers: dict[tuple[Owner, int], None] = {}
        self._joiners: dict[tuple[Owner, int], None] = {}
        self._handed: dict[tuple[tuple[str, int], int], list[_Message]] = {}  # by process and number of the get
        self._unfinished = 0
        self._shut = self._shut_at_once = False
        self._counts = {"put": 0, "received": 0, "returned": 0, "dropped": 0, "lost": 0}

    # --- what the hub calls ---

    def request(self, owner: Owner, number: int, op: str, args: list[Any]) -> None:
        getattr(self, f"_on_{op}")(owner, number, *args)

    def cancel(self, owner: Owner, number: int) -> bool:
        name = owner, number
        for put in self._putters:
            if (put.owner, put.number) == name:
                self._putters.remove(put)
                self._refuse(put, "full")
                self._settle()  # it may have been in the way of a smaller one
                return False
        if self._getters.pop(name, None) is not None:
            self.hub.answer(owner, number, ["empty"])
        for waiting in (self._lookers, self._joiners):
            if name in waiting:
                del waiting[name]
                self.hub.answer(owner, number, False)
        return False

    def ended(self, process: tuple[str, int], facts: Process, exitcode: int | None) -> None:
        self._forget(lambda owner: owner[:2] == process)
        names = [name for name in self._handed if name[0] == process]
        for name in names:
            for message in self._handed[name]:
                message.deaths += 1
        self._take_back(names)
        self._settle()

    def node_ends(self, node: str) -> None:
        self._forget(lambda owner: owner.node == node)
        for name in [name for name in self._handed if name[0][0] == node]:
            for message in self._handed.pop(name):
                self._counts["dropped"] += 1
                self._let_go(message)
        for messages in (self._messages, *self._handed.values()):
            for message in messages:
                if message.key is not None and message.putter[0] == node:
                    message.key = None
                    self._counts["lost"] += 1
        self._settle()

    def gone(self) -> None:
        for messages in (self._messages, *self._handed.values()):
            for message in messages:
                self._let_go(message)
        self._messages.clear()
        self._handed.clear()
        self._bytes = 0

    def keys_of(self, process: tuple[str, int]) -> list[Any]:
        every = (self._messages, *self._handed.values())
        return [m.key for messages in every for m in messages if m.putter == process and m.key is not None]

    def waiters(self) -> list[tuple[Owner, str]]:
        return [
            *((owner, "item") for owner, _ in (*self._getters, *self._lookers)),
            *((put.owner, "room") for put in self._putters),
            *((owner, "join") for owner, _ in self._joiners),
        ]

    def facts(self) -> dict[str, Any]:
        return {
            "messages": len(self._messages),
            "bytes": self._bytes,
            "maxsize": self._maxsize,
            "maxbytes": self._maxbytes,
            "unfinished": self._unfinished,
            "shutdown": self._shut,
            "receiving": [[*process, len(messages)] for (process, _), messages in self._handed.items()],
            **self._counts,
        }

    # --- requests ---

    def _on_put(self, owner: Owner, number: int, wait: bool, given: list[Any]) -> None:
        put = _Put(owner, number, deque(given), 0)
        if self._shut:
            self._refuse(put, "shutdown")
            return
        self._putters.append(put)
        self._settle()
        if not wait and put.left:
            self._putters.remove(put)
            self._refuse(put, "full")

    def _on_get(self, owner: Owner, number: int, wait: bool, most: int) -> None:
        if not self._messages and self._shut:
            self.hub.answer(owner, number, ["shutdown"])
        elif not self._messages and not wait:
            self.hub.answer(owner, number, ["empty"])
        else:
            self._getters[owner, number] = most
            self._settle()

    def _on_got(self, owner: Owner, _: int, number: int, held: Iterable[int] = ()) -> None:
        messages = self._handed.pop((owner[:2], number), ())
        if messages:
            self._hold(owner, held)
        for message in messages:
            self._counts["received"] += 1
            self._let_go(message)

    def _on_back(self, owner: Owner, _: int, number: int, skip: int, held: Iterable[int] = ()) -> None:
        messages = self._handed.pop((owner[:2], number), [])
        if messages:
            self._hold(owner, held)
        for message in messages[:skip]:
            self._counts["received"] += 1
            self._let_go(message)
        if messages[skip:]:
            self._handed[owner[:2], number] = messages[skip:]
            self._take_back([(owner[:2], number)])
            self._settle()

    def _on_is_lost(self, owner: Owner, number: int, of: int, index: int) -> None:
        messages = self._handed.get((owner[:2], of), [])
        lost = index < len(messages) and messages[index].body is None and messages[index].key is None
        self.hub.answer(owner, number, lost)

    def _on_look(self, owner: Owner, number: int) -> None:
        full = bool(self._putters) or 0 < self._maxsize <= len(self._messages) or 0 < self._maxbytes <= self._bytes
        facts = [len(self._messages), self._bytes, full, self._shut, self._unfinished]
        self.hub.answer(owner, number, facts)

    def _on_done(self, owner: Owner, number: int) -> None:
        fine = self._unfinished > 0
        if fine:
            self._unfinished -= 1
        self.hub.answer(owner, number, fine)
        self._settle()

    def _on_join(self, owner: Owner, number: int) -> None:
        self._joiners[owner, number] = None
        self._settle()

    def _on_item(self, owner: Owner, number: int) -> None:
        self._lookers[owner, number] = None
        self._settle()

    def _on_shutdown(self, owner: Owner, number: int, at_once: bool) -> None:
        self._shut = True
        if at_once:
            self._shut_at_once = True
            self._unfinished -= min(self._unfinished, len(self._messages))
            for message in self._messages:
                self._let_go(message)
            self._messages.clear()
            self._bytes = 0
        while self._putters:
            self._refuse(self._putters.popleft(), "shutdown")
        self._settle()
        self.hub.answer(owner, number, True)

    # --- what follows from a change ---

    def _settle(self) -> None:
        """Lets in what has room, and hands out what is wanted, in the order in which the requests came."""
        while self._let_in() or self._hand_out():
            pass
        if self._lookers and (self._messages or self._shut):
            self._answer_all(self._lookers)
        if self._joiners and not self._unfinished:
            self._answer_all(self._joiners)
        if self._shut and not self._messages:
            while self._getters:
                owner, number = next(iter(self._getters))
                del self._getters[owner, number]
                self.hub.answer(owner, number, ["shutdown"])

    def _hold(self, owner: Owner, held: Iterable[int]) -> None:
        for each in held:
            self.hub.refer(owner[:2], "held", each)

    def _refuse(self, put: _Put, why: str) -> None:
        """Ends a `put` whose messages are not all in the queue."""
        self.hub.answer(put.owner, put.number, [why, put.count])
        for given in put.left:
            if type(given) is list and given[0] == _AT_PLACE:
                self.hub.tell(put.owner.node, ["drop", put.owner.process, given[3]])

    def _let_in(self) -> bool:
        """Puts messages of the first waiting `put` into the queue. Returns whether it is done."""
        if not self._putters:
            return False
        put = self._putters[0]
        while put.left:
            message = _Message(self._last + 1, put.left[0], put.owner[:2])
            if not self._has_room(message.size):
                break
            put.left.popleft()
            put.count += 1
            self._last += 1
            self._messages.append(message)
            self._bytes += message.size
            self._unfinished += 1
            self._counts["put"] += 1
            for handle in message.handles:
                self.hub.keep(handle, ("", self.number))
        if put.left:
            return False
        self._putters.popleft()
        self.hub.answer(put.owner, put.number, ["put", put.count])
        return True

    def _has_room(self, size: int) -> bool:
        if not self._messages:  # one that is bigger than the limit enters alone
            return True
        if 0 < self._maxsize <= len(self._messages):
            return False
        return not 0 < self._maxbytes < self._bytes + size

    def _hand_out(self) -> bool:
        """Sends messages to the first waiting `get`. Returns whether there was one, and a message for it."""
        if not self._getters or not self._messages:
            return False
        owner, number = next(iter(self._getters))
        most = self._getters.pop((owner, number))
        taken: list[_Message] = []
        size = 0
        while self._messages and len(taken) < most:
            size += self._messages[0].size
            if taken and (size > _MOST_BYTES or taken[-1].deaths or self._messages[0].deaths):
                break
            taken.append(self._messages.popleft())
            self._bytes -= taken[-1].size
        self._handed[owner[:2], number] = taken
        self.hub.answer(owner, number, ["items", [message.sent() for message in taken], bool(self._messages), number])
        return True

    def _answer_all(self, waiting: dict[tuple[Owner, int], None]) -> None:
        names = list(waiting)
        waiting.clear()
        for name in names:
            self.hub.answer(*name, True)

    def _take_back(self, names: Iterable[tuple[tuple[str, int], int]]) -> None:
        """Returns messages that were handed out to their places in the queue."""
        back: list[_Message] = []
        for message in [message for name in names for message in self._handed.pop(name)]:
            if self._shut_at_once:  # as those that were in the queue then
                self._unfinished -= min(self._unfinished, 1)
                self._let_go(message)
            elif message.deaths < _MOST_DEATHS:
                back.append(message)
            else:
                self._counts["dropped"] += 1
                self._let_go(message)
        if back:
            self._counts["returned"] += len(back)
            self._bytes += sum(message.size for message in back)
            self._messages = deque(sorted([*back, *self._messages], key=_by_number))

    def _forget(self, is_gone: Callable[[Owner], bool]) -> None:
        """Drops the requests of some owners."""
        if any(is_gone(put.owner) for put in self._putters):
            self._putters = deque(put for put in self._putters if not is_gone(put.owner))
        for waiting in (self._getters, self._lookers, self._joiners):
            for name in [name for name in waiting if is_gone(name[0])]:
                del waiting[name]

    def _let_go(self, message: _Message) -> None:
        """Frees what a message has kept."""
        for handle in message.handles:
            self.hub.let_go(handle, ("", self.number))
        if message.key is not None:
            self.hub.tell(message.putter[0], ["drop", message.putter[1], message.key])
