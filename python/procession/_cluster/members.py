"""The nodes of a cluster, as this client sees them: who joins, who leaves, and whether the scheduler is there.

Everything here runs in the thread of Dask's loop, except where a method says otherwise. Dask's scheduler tells of
changes by events; once a second the list is read as well, since an event can be lost when the program is slow.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
import time
import warnings
import weakref
from contextlib import suppress
from functools import partial

from .._pool.errors import PoolBrokenError
from . import connect, node, uploads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Watcher(Protocol):
        def joined(self, node: Node) -> None: ...
        def left(self, node: Node, why: str) -> None: ...
        def lost(self, error: BaseException) -> None: ...
        async def watch(self) -> None: ...


__all__ = ["Members", "Node"]

_LOOK, _READ = 0.05, 1.0  # seconds between looks at the scheduler's connection, and between reads of its list
_TO_REMOVE = 1.0  # seconds for the nodes to remove uploads, when the connection is closed
_AGAIN = 0.5  # seconds after which a node may be connected to again


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Returns False for the traceback of an attempt to reach a dead scheduler again, which our `close` ends."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class Node:
    """One node: a Dask worker process."""

    def __init__(self, address: str, name: str, cores: int, pid: int) -> None:
        self.address = address
        self.name = name
        self.cores = cores
        self.pid = pid
        self.leaves = False  # it leaves the cluster in good order

    def __repr__(self) -> str:
        return f"<Node {self.name} at {self.address}, {self.cores} cores>"


class Members:
    """The nodes. Made and closed by a program's thread."""

    def __init__(self, client: Any, insecure: bool, node_timeout: float) -> None:
        """client: a Dask client that is ours alone. Raises what `connect.check` raises for a node that is there now."""
        self.address: str = client.scheduler.address
        self.node_timeout = node_timeout
        self.nodes: dict[str, Node] = {}
        self.refused: dict[str, str] = {}  # why a node is not used, by its address
        self.pid: int = os.getpid()
        self.key: str = secrets.token_hex(8)  # names this client on the nodes
        self._client = client
        self._insecure = insecure
        self._loop = client.loop.asyncio_loop
        self._admitting: set[str] = set()
        self._uploads: dict[str, bytes] = {}
        # when a node could not be reached, by its address
        self._gone: dict[str, float] = {}
        self._tasks: set[Any] = set()
        self._watchers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lost: BaseException | None = None
        self._failed: list[BaseException] = []  # why the nodes that are there at first cannot be used
        self._began = threading.Event()
        self._task: Any = None
        self._shared: Any = None  # the connection to locks and queues, when a program has made one
        self._sharing = threading.Lock()
        client.subscribe_topic("all", self._event)
        asyncio.run_coroutine_threadsafe(self._run(), self._loop)
        self._began.wait()
        if self._failed:
            self.close()
            raise self._failed[0]

    # --- from any thread ---

    def soon(self, call: Callable[[], object]) -> None:
        """Calls a function in the loop; does nothing if the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)

    def begin(self, work: Any) -> Any:
        """Runs a coroutine in the loop. Returns its future, of `concurrent.futures`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def watch(self, watcher: Watcher) -> None:
        """Tells an object of changes from now on, and of the nodes that are there already."""

        def begin() -> None:
            if self._lost is not None:
                watcher.lost(self._lost)
                return
            self._watchers.add(watcher)
            for found in list(self.nodes.values()):
                watcher.joined(found)
            task = asyncio.ensure_future(watcher.watch())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.soon(begin)

    def unwatch(self, watcher: Watcher) -> None:
        """Tells an object no more."""
        self.soon(lambda: self._watchers.discard(watcher))

    def wait_for_nodes(self) -> list[Node]:
        """Returns the nodes, of which there is at least one. Not from the loop.

        Raises:
            PoolBrokenError: the scheduler has gone, or there is no node for `node_timeout` seconds.
        """
        limit = time.monotonic() + self.node_timeout
        while not self.nodes and self._lost is None and time.monotonic() < limit:
            time.sleep(_LOOK)
        if self._lost is not None:
            raise self._lost
        if not self.nodes:
            raise PoolBrokenError(f"the cluster at {self.address} has no nodes")
        return list(self.nodes.values())

    def run(self, function: Any, address: str, *args: Any) -> Any:
        """Runs a function in the process of a node, and returns its result. Both sides import the function by its name.
        Not from the loop.

        TimeoutError: the node has not answered for `node_timeout` seconds.
        """
        return self._run_on([address], function, *args)[address]

    def _run_on(self, addresses: list[str], function: Any, *args: Any) -> Any:
        client = self._client
        return client.sync(
            client._run, function, *args, workers=addresses, callback_timeout=self.node_timeout, on_error="raise"
        )

    def upload(self, path: Any) -> None:
        """Sends a file or folder to all nodes, and to those that join later. OSError: it cannot be read or stored."""
        archive = uploads.pack(path)
        served = list(self.nodes)
        self._run_on(served, uploads.store, archive, self.key)
        self._uploads.pop(os.path.abspath(path), None)  # the order is that of the last uploads
        self._uploads[os.path.abspath(path)] = archive  # from here on a node gets it before it joins
        late = [address for address in list(self.nodes) if address not in served]
        if late:
            self._run_on(late, uploads.store, archive, self.key)

    def shared(self) -> Any:
        """Returns the connection to the locks and queues of the cluster, which is made at the first call. Not from the
        loop.

        Raises:
            PoolBrokenError: the scheduler has gone.
            RuntimeError: the scheduler has other versions, or no Procession.
        """
        from .sync.client import ClientSide

        with self._sharing:
            if self._lost is not None:
                raise self._lost
            if self._shared is None:
                self._shared = ClientSide(self, self._client)
                self.soon(self._end_sharing)  # if the scheduler has gone meanwhile
            return self._shared.here

    def shared_by_parent(self) -> Any:
        """Returns what a forked child uses: its parent passes its calls on. None: the parent had no such connection."""
        from .sync import call

        return None if self._shared is None else call.here(self._shared.here.cluster, self._shared.here.address)

    def cores(self) -> int:
        """Returns the number of cores of all nodes."""
        return sum(found.cores for found in list(self.nodes.values()))

    def home(self) -> str:
        """Returns the address of this machine in the network in which the scheduler is."""
        host = connect.host_of(self.address)
        found: str = connect.dask().utils.get_ip(host)
        return found

    def close(self) -> None:
        """Ends the connection to the cluster. Pools that use it break."""
        if os.getpid() != self.pid:
            return
        self.soon(lambda: self._lose(PoolBrokenError("the connection to the cluster was closed")))
        with suppress(Exception):  # the scheduler has gone
            self._client.unsubscribe_topic("all")
            remove, nodes = partial(self._client._run, uploads.remove, self.key), list(self.nodes)
            self._client.sync(remove, workers=nodes, callback_timeout=_TO_REMOVE, on_error="ignore")
        log = logging.getLogger("distributed.client")
        log.addFilter(_is_of_interest)
        try:
            self._client.close(timeout=2)
        finally:
            log.removeFilter(_is_of_interest)

    # --- in the loop ---

    async def connect(self, to: Node) -> Any:
        """Opens a connection to a node."""
        arguments = self._client.security.get_connection_args("client")
        open_comm = connect.dask().comm.connect
        return await open_comm(to.address, timeout=self.node_timeout, **arguments)

    def usable(self) -> dict[str, Node]:
        """Returns the nodes that may be connected to now."""
        limit = time.monotonic() - _AGAIN
        self._gone = {address: since for address, since in self._gone.items() if since > limit}
        return {address: found for address, found in self.nodes.items() if address not in self._gone}

    def rest(self, node: Node) -> None:
        """Notes that the connection to a node has ended: the next one is made after a pause."""
        self._gone[node.address] = time.monotonic()

    async def _run(self) -> None:
        try:
            await self._read(True)
        except Exception as error:
            self._failed.append(error)
        self._began.set()
        last, again = time.monotonic(), False
        while self._lost is None:
            await asyncio.sleep(_LOOK)
            comm = self._client.scheduler_comm
            if comm is None or comm.comm.closed() or self._client.status not in ("running",):
                self._lose(PoolBrokenError(f"the scheduler at {self.address} has gone"))
            elif time.monotonic() - last > _READ:
                limit = _READ if again else self.node_timeout
                try:
                    await asyncio.wait_for(self._read(False), limit)
                except TimeoutError:
                    if not again:  # after this program was suspended, the answer may be there already
                        again = True
                        continue
                    silent = time.monotonic() - last
                    why = f"the scheduler at {self.address} has been silent for {silent:.1f} seconds"
                    self._lose(PoolBrokenError(why))
                except OSError:
                    continue  # the next look tells
                last, again = time.monotonic(), False

    async def _read(self, first: bool) -> None:
        """Reads the list of nodes."""
        found = (await self._client.scheduler.identity())["workers"]
        for address in set(self.nodes) - set(found):
            self._leave(address, "has left the cluster")
        for address in set(self.refused) - set(found):
            del self.refused[address]
        new = [address for address in found if address not in self.nodes and address not in self.refused]
        if first:
            await asyncio.gather(*map(self._admit, new))
            self._failed += [RuntimeError(self.refused[address]) for address in new if address in self.refused]
        else:
            for address in new:
                self._begin_to_admit(address)

    def _event(self, event: tuple[float, Any]) -> None:
        what = event[1]
        if not isinstance(what, dict) or self._lost is not None or not self._began.is_set():
            return
        if what.get("action") == "remove-worker":
            leaves = bool(what.get("expected"))
            self._leave(what["worker"], "has left the cluster" if leaves else "has died", leaves)
        elif what.get("action") == "add-worker":
            self._begin_to_admit(what["worker"])

    def _begin_to_admit(self, address: str) -> None:
        if address not in self.nodes and address not in self._admitting:
            task = asyncio.ensure_future(self._admit(address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _admit(self, address: str) -> None:
        """Checks a new node, and prepares it."""
        self._admitting.add(address)
        late = self._began.is_set()
        try:
            why = connect.why_plain(address, self._insecure)
            if why is None:
                told = await asyncio.to_thread(self.run, eval, address, connect.VERSIONS)
                why = connect.why_other(told, address)
            if why is not None:
                self.refused[address] = why
                if late:
                    warnings.warn(f"a node is not used: {why}", RuntimeWarning, stacklevel=2)
                return
            facts = await asyncio.to_thread(self.run, node.install, address, self.key)
            stored: list[bytes] = []
            while missing := [archive for archive in self._uploads.values() if archive not in stored]:
                await asyncio.to_thread(self.run, uploads.store, address, missing[0], self.key)
                stored.append(missing[0])
        except (OSError, TimeoutError):
            return  # it has gone already or is stopped; if not, the next reading of the list tries it again
        except Exception:
            if not late:
                raise
            return
        finally:
            self._admitting.discard(address)
        found = self.nodes[address] = Node(address, facts["name"], facts["cores"], facts["pid"])
        for watcher in list(self._watchers):
            watcher.joined(found)

    def _leave(self, address: str, why: str, leaves: bool = False) -> None:
        found = self.nodes.pop(address, None)
        if found is not None:
            found.leaves = leaves
            for watcher in list(self._watchers):
                watcher.left(found, why)

    def _end_sharing(self) -> None:
        if self._lost is not None and self._shared is not None:
            self._shared.close(str(self._lost))

    def _lose(self, error: BaseException) -> None:
        if self._lost is None:
            self._lost = error
            self._end_sharing()
            for watcher in list(self._watchers):
                watcher.lost(error)
