"""Processes on the nodes of a cluster: the client's side.

A `ClusterProcess` is a `Process` whose `start()` sends it to a node, where `process_node` runs it. The connection to
the node lives in the thread of Dask's loop; a program's threads wait for an event that this thread sets.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import weakref
from contextlib import suppress

from .. import popen_fork, process, util
from .._errors import ProcessDiedError
from .._pool.errors import NodeDiedError
from .._start import exit_report
from ..context import Process
from . import pickling, process_node
from .common import held_up
from .frames import safe
from .process_child import record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .context import ClusterContext
    from .members import Members, Node

__all__ = ["ClusterProcess", "class_for"]

_UNKNOWN = 255  # the exit code of a process whose node has gone
_LOOK = 0.1  # seconds between looks whether a node that does not answer is still there


class _NotReached(Exception):
    """Raised where a node has not been told of the process."""


class ClusterProcess(Process):  # for `isinstance`: it has nothing else of that class
    """A process on a node of a cluster.

    It is as a process of this machine, except: `pid` is that on its node. When this program is killed, the process is
    killed, also if it is not daemonic. If its node dies or is silent for `node_timeout`, if the scheduler dies, and if
    the cluster's context is closed, `exitcode` is 255 and `exception` is a `NodeDiedError`.
    """

    _start_method = None  # on its node it is a process of that machine

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        node: str | Node | None = None,
        forward_output: bool = False,
    ) -> None:
        """Prepares the process; `start()` starts it. A derived class must call this `__init__` first.

        `start()` pickles the object. Functions and classes of the main module go by value; other modules must be there
        on the node.

        Args:
            group: None, always.
            target: what `run()` calls, on the node, as target(*args, **kwargs).
            name: for people to read.
            args: positional arguments of `target`.
            kwargs: keyword arguments of `target`.
            daemon: whether this process ends it at its own exit, instead of joining it.
            node: the node: its name, its address, or one of `cluster.nodes()`; None: the one with the fewest processes
                of this program for its cores. If that one has died just before, `start()` takes another one.
            forward_output: whether what the process prints appears on this program's stdout and stderr, line by line,
                and its log records go to this program's loggers (from the level of the root logger on). False: both
                stay in the node's own output.

        Raises:
            TypeError: an argument has the wrong type.
        """
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        if node is not None and not isinstance(node, str):
            node = getattr(node, "address", node)
            if not isinstance(node, str):
                raise TypeError(f"node must be a name, an address or one of nodes(), not {node!r}")
        self._procession_node = node
        self._procession_forward = bool(forward_output)

    @property
    def node(self) -> str | None:
        """The name of the node on which the process was started; before the start what was asked for."""
        return self._procession_node if self._popen is None else self._popen.node.name  # type: ignore[attr-defined]

    _after_fork = staticmethod(process.BaseProcess._after_fork)

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:
        raise ValueError("a process of a cluster is made by the context of the cluster, and on this machine")


def class_for(context: ClusterContext) -> type[ClusterProcess]:
    """Makes the class `Process` of a cluster."""

    def start(process_obj: process.BaseProcess) -> RemotePopen:
        return RemotePopen(process_obj, context.members())

    attributes = {
        "__module__": __name__,
        "_Popen": staticmethod(start),
        "_procession_general": staticmethod(lambda: (_general, ())),
    }
    return type("Process", (ClusterProcess,), attributes)


def _general() -> type[ClusterProcess]:
    """Stands for the class of a cluster in pickles: a node has no connection of ours."""
    return ClusterProcess


class RemotePopen(popen_fork.Popen):
    """A started process on a node. Making one starts it. If that raises, there is no process."""

    method = "dask"

    def __init__(self, process_obj: process.BaseProcess, members: Members) -> None:
        """process_obj: a `ClusterProcess`, or a process of a program that does not know of the cluster."""
        self._members = members
        self._parent = os.getpid()
        self.returncode: int | None = None
        self._report: bytes | None = None
        self._comm: Any = None
        self._heard = time.monotonic()
        self._showing = False
        self._name = process_obj._name
        self._over = threading.Event()
        util._flush_std_streams()
        pickled = _pickled(process_obj)
        wanted = getattr(process_obj, "_procession_node", None)
        # a program that does not know of the cluster cannot ask for its output, and expects it
        forward = getattr(process_obj, "_procession_forward", True)
        self._sentinel = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            tried: list[Node] = []
            while True:
                self.node = _choose(members, wanted, tried)
                try:
                    self.pid: int = self._start(pickled, forward)
                    return
                except _NotReached as error:  # it has died just now; the process was not started
                    tried.append(self.node)
                    if wanted is not None or set(members.nodes.values()) <= set(tried):
                        raise self._gone(str(error)) from error.__cause__
        except BaseException:
            members.soon(self._give_up)
            raise

    def _gone(self, why: str) -> NodeDiedError:
        return NodeDiedError(why, self.node.pid, node=self.node.name)

    def _start(self, pickled: bytes, forward: bool) -> int:
        """Starts the process on `self.node`. Returns its pid."""
        hello = {
            "op": process_node.HANDLER,
            "reply": False,
            "node": safe(self.node.name),
            "client": self._members.key,
            "name": safe(self._name),
            "forward": forward,
            "level": _level(),
            "pickle": pickled,
        }
        if self.node not in _prepared:
            try:
                self._members.run(process_node.install, self.node.address)
            except (TimeoutError, OSError) as error:
                raise _NotReached(f"the node {self.node.name} does not answer: {error}") from None
            _prepared.add(self.node)
        _end_at_exit()
        begun = self._members.begin(self._begin(hello))
        try:
            pid: int = begun.result()
        except BaseException:
            begun.cancel()
            raise
        return pid

    # --- in the thread of Dask's loop ---

    def _give_up(self) -> None:
        """Ends a process that may have been started just when a signal ended the start."""
        if self._comm is not None:
            self._finish(_UNKNOWN)  # its node kills it, since the connection ends
        os.close(self._sentinel)

    async def _begin(self, hello: dict[str, Any]) -> int:
        comm = await self._connect()
        try:
            await comm.write(hello)
            kind, what = await asyncio.wait_for(comm.read(), self._members.node_timeout)
            if kind != "started":
                raise ChildProcessError(f"the node {self.node.name} could not start {hello['name']}: {what}")
        except BaseException as error:
            comm.abort()
            if isinstance(error, OSError) and not isinstance(error, ChildProcessError):
                raise self._gone(f"the node {self.node.name} has gone while it started {hello['name']}") from error
            raise
        self._comm = comm
        self._heard = time.monotonic()
        self.pid = what  # already here: the process may end before the constructor goes on
        _running[self.node.address] = _running.get(self.node.address, 0) + 1
        self._task = asyncio.ensure_future(self._read())  # kept, so that it is not collected
        self._members.watch(self)
        return what  # type: ignore[no-any-return]

    async def _connect(self) -> Any:
        """Opens a connection to the node. _NotReached: it has died; Dask would go on trying."""
        work = asyncio.ensure_future(self._members.connect(self.node))
        try:
            while not work.done() and self._members.nodes.get(self.node.address) is self.node:
                await asyncio.wait((work,), timeout=_LOOK)
            if work.done():
                return work.result()
        except OSError as error:
            raise _NotReached(f"the node {self.node.name} cannot be reached: {error}") from error
        finally:
            work.cancel()
        raise _NotReached(f"the node {self.node.name} has gone before it started {safe(self._name)}")

    async def _read(self) -> None:
        try:
            while True:
                kind, *rest = await self._comm.read()
                self._heard = time.monotonic()
                if kind == "ended":
                    code, self._report, self._out_of_memory = rest
                    self._finish(code)
                    return
                if kind != "pong":
                    self._showing = True
                    await _shown(kind, *rest)
                    self._showing = False
        except Exception as error:
            self._finish(_UNKNOWN, f"the node {self.node.name} has gone", error)

    def _finish(self, code: int, why: str = "", cause: BaseException | None = None) -> None:
        if self.returncode is not None:
            return
        if why:
            self._exception = NodeDiedError(
                f"{why}, and with it the process {self._name} (pid {self.pid} there): whether it has ended is not known"
            )
            self._exception.__cause__ = cause
        self.returncode = code
        os.eventfd_write(self._sentinel, 1)
        self._over.set()  # from here on the program may close the descriptor
        _running[self.node.address] -= 1
        self._comm.abort()
        self._members.unwatch(self)

    async def watch(self) -> None:
        """Asks the node for a sign of life: one that was stopped closes no connection."""
        limit = self._members.node_timeout
        while self.returncode is None:
            if time.monotonic() - self._heard > limit and not self._showing:
                self._finish(_UNKNOWN, f"the node {self.node.name} has been silent for {limit:g} seconds")
                return
            await self._send("ping", 0)
            if await held_up(limit / 4):
                self._heard = time.monotonic()

    def joined(self, node: Node) -> None:
        """Called when a node joins."""

    def left(self, node: Node, why: str) -> None:
        """Called when a node leaves."""
        if node is self.node:
            self._finish(_UNKNOWN, f"the node {node.name} {why}")

    def lost(self, error: BaseException) -> None:
        """Called when the cluster cannot be used any more."""
        self._finish(_UNKNOWN, str(error))

    async def _send(self, kind: str, number: int) -> None:
        with suppress(OSError):  # the node has gone, or the process has ended
            await self._comm.write([kind, number])

    # --- in the program's threads ---

    @process.Yielding
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """Raises TypeError: a descriptor is of this machine."""
        raise TypeError(f"the descriptor {fd} is of this machine, and the process starts on another one")

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits until the process has ended. Returns the exit code; None if it still runs after `timeout` seconds."""
        if self._parent == os.getpid():
            self._over.wait(timeout if self.returncode is None else None)
        return self.returncode

    def exception(self, process_obj: process.BaseProcess) -> BaseException | None:
        """Returns what ended the process; see `Process.exception`."""
        code = self.poll()
        if code is None or code == 0 or self._exception is not None:
            return self._exception
        who = f"{process_obj.name} (pid {self.pid} on the node {self.node.name})"
        died = ProcessDiedError(f"{who} {exit_report.how(code, self._out_of_memory)}", self.pid, process_obj.name, code)
        self._exception = died if self._report is None or code < 0 else exit_report.read_report(self._report, who, died)
        return self._exception

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None and self._parent == os.getpid():
            self._members.begin(self._send("signal", int(sig)))

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._sentinel)


def _pickled(process_obj: process.BaseProcess) -> bytes:
    config = process_obj._config
    # without the key of this process, which no other machine needs
    process_obj._config = {name: value for name, value in config.items() if name != "authkey"}
    try:
        return pickling.dumps_whole(process_obj)
    finally:
        process_obj._config = config


def _end_at_exit() -> None:
    """Registers the end of our processes, to happen before that of a cluster which this program has made itself."""
    if not _registered:
        _registered.append(True)
        atexit.register(_end_all)


def _end_all() -> None:
    ours = [child for child in process.active_children() if isinstance(child._popen, RemotePopen)]
    for child in ours:
        if child.daemon:
            child.terminate()
    for child in ours:
        child.join()


_registered: list[bool] = []
_prepared: weakref.WeakSet[Node] = weakref.WeakSet()
_running: dict[str, int] = {}  # how many processes of this program each node runs; changed in the loop


def _choose(members: Members, wanted: str | None, tried: list[Node]) -> Node:
    """Returns the node of that name or address; None: the one with the most room that is not among those tried."""
    nodes = members.wait_for_nodes()
    if wanted is not None:
        for node in nodes:
            if wanted in (node.address, node.name):
                return node
        raise ValueError(f"there is no node {wanted!r}: there are {', '.join(sorted(node.name for node in nodes))}")
    nodes = [node for node in nodes if node not in tried] or nodes
    return min(nodes, key=lambda node: (_running.get(node.address, 0) / max(1, node.cores), node.address))


def _level() -> int:
    logging = sys.modules.get("logging")
    return logging.getLogger().getEffectiveLevel() if logging is not None else 30  # WARNING


async def _shown(kind: str, *rest: Any) -> None:
    """Shows it in a thread, since standard output may be a pipe that is full; here, if the program ends already."""
    try:
        await asyncio.to_thread(_show, kind, *rest)
    except RuntimeError:  # no threads are begun any more
        _show(kind, *rest)


def _show(kind: str, *rest: Any) -> None:
    """Shows output or a log record of a process."""
    with suppress(Exception):  # the program's stream or handler fails; its own output would, too
        if kind == "log":
            import logging

            record = record_of(bytes(rest[0]))
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        elif kind == "output":
            stream = sys.stdout if rest[0] == 1 else sys.stderr
            stream.write(bytes(rest[1]).decode(errors="backslashreplace"))
            stream.flush()
