"""The context of a cluster: `procession.cluster()` and `get_context("dask")` return one."""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import cast

from .._arguments import seconds
from ..context import BaseContext
from . import connect
from .process import ClusterProcess, class_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from .. import queues as queues_
    from .. import synchronize
    from .._pool.engine import Engine, Supervisor
    from .._pool.options import OfPool
    from ..process import BaseProcess
    from .manager import ClusterManager
    from .members import Members

__all__ = ["ADDRESS", "ClusterContext", "cluster", "dask_context"]

ADDRESS = "PROCESSION_CLUSTER"  # the variable with the address of the cluster of `get_context("dask")`
_TIMEOUT = 30.0


class ClusterContext(BaseContext):
    """The functions of the package, for a cluster: `Pool` runs its calls on the nodes.

    Queues, locks, semaphores, conditions, events and barriers are shared by all processes of the cluster. What is not
    made for a cluster (shared memory) is an object of this machine, and raises TypeError if a call for another machine
    gets it.
    """

    _name = "dask"
    Process: type[BaseProcess] = ClusterProcess

    def __init__(self, where: Any, security: Any, node_timeout: float, insecure: bool) -> None:
        """where: as for `cluster()`; None: the address is read from the environment when it is needed."""
        self._where = where
        self._security = security
        self._node_timeout = node_timeout
        self._insecure = insecure
        self.Process = class_for(self)
        self._lock = threading.Lock()
        self._members: Members | None = None
        self._closed = False

    def __repr__(self) -> str:
        members = self._members
        if self._closed:
            return "<cluster, closed>"
        return (
            "<cluster, not connected>"
            if members is None
            else f"<cluster {members.address} of {len(members.nodes)} nodes>"
        )

    def members(self) -> Members:
        """Returns the nodes. Connects to the cluster, if that was not done yet. ValueError: the context is closed."""
        from .members import Members

        with self._lock:
            found = self._members
            if self._closed:
                raise ValueError("this connection to a cluster is closed: make another one with cluster()")
            if found is None or found.pid != os.getpid():  # a forked child cannot use its parent's connection
                where = self._where if self._where is not None else os.environ.get(ADDRESS) or None
                if where is None:
                    raise ValueError(f"which cluster? Set {ADDRESS} to the address of its scheduler, or use cluster()")
                client = connect.client_of(where, self._security, self._insecure, self._node_timeout)
                try:
                    self._members = found = Members(client, self._insecure, self._node_timeout)
                except BaseException:  # also Ctrl-C
                    with suppress(Exception):
                        client.close(timeout=2)
                    raise
                # for a program that drops the context without closing it
                weakref.finalize(self, _close_soon, found).atexit = False
            return found

    def cpu_count(self) -> int:
        """Returns the number of cores of all nodes that are there now."""
        return max(1, self.members().cores())

    def nodes(self) -> list[Any]:
        """Returns the nodes that are there now. Each has `name`, `address`, `cores` and `pid`."""
        return list(self.members().nodes.values())

    def _pool_parts(self, pool: Any, processes: int | None, asked: OfPool) -> tuple[Engine, Supervisor]:
        """Makes what runs the calls of a pool. `Pool` calls it."""
        from .engine import ClusterEngine
        from .supervisor import ClusterSupervisor

        for option in ("exit_function", "logs", "output"):
            if option in asked.of_workers:
                raise ValueError(f"a pool over a cluster has no {option}: its workers are those of the nodes")
        if isinstance(asked.of_workers.get("pin"), list):
            raise ValueError('a pool over a cluster has no list of CPUs for pin, as nodes differ: only "cores"')
        options = {
            "processes": processes,
            "initializer": pool._initializer,
            "initargs": pool._initargs,
            "most": pool._maxtasksperchild,
            "memory": asked.worker_memory_limit,
            "threads": asked.inner_threads,
            "more": asked.of_workers,
        }
        engine: Any = ClusterEngine(self.members(), options)
        return engine, ClusterSupervisor(pool, engine)

    def Manager(self, *, name: str | None = None) -> ClusterManager:
        """Starts a manager: its server runs on this machine, and processes of the nodes reach it through TLS.

        A proxy that is sent to a node takes the manager's key and certificate along.

        Args:
            name: of the server process; None: the name of the class and a number.

        Raises:
            ModuleNotFoundError: `cryptography` is not installed (`pip install procession[dask]`).
            EOFError: the server has ended before it was ready.
        """
        from ..context import _context_of
        from .manager import ClusterManager

        manager = ClusterManager(self.members().home(), _context_of("spawn"), name)
        manager.start()
        return manager

    # --- objects that the processes of the cluster share ---

    def Lock(self, *, name: str | None = None, robust: bool = True) -> synchronize.Lock:
        """Makes a lock that all processes of the cluster share, on whichever node. See `help()` of the object.

        It can be sent to tasks and processes of the cluster at any time. RuntimeError: the scheduler has no Procession.
        """
        from .sync import locks

        return cast("synchronize.Lock", locks.Lock(self._shared(), name, robust))

    def RLock(self, *, name: str | None = None, robust: bool = True) -> synchronize.RLock:
        """Makes a lock that the thread which holds it may acquire again. Otherwise as `Lock`."""
        from .sync import locks

        return cast("synchronize.RLock", locks.RLock(self._shared(), name, robust))

    def Condition(self, lock: Any = None, *, name: str | None = None) -> synchronize.Condition:
        """Makes a condition variable. lock: a Lock or RLock of this context; None: a new RLock. Otherwise as `Lock`."""
        from .sync import condition

        return cast("synchronize.Condition", condition.Condition(self._shared(), lock, name))

    def Semaphore(self, value: int = 1, *, name: str | None = None) -> synchronize.Semaphore:
        """Makes a semaphore. ValueError: the first value is below 0. Otherwise as `Lock`."""
        from .sync import locks

        return cast("synchronize.Semaphore", locks.Semaphore(self._shared(), value, name))

    def BoundedSemaphore(self, value: int = 1, *, name: str | None = None) -> synchronize.BoundedSemaphore:
        """Makes a semaphore that cannot be released beyond its first value. Otherwise as `Semaphore`."""
        from .sync import locks

        return cast("synchronize.BoundedSemaphore", locks.BoundedSemaphore(self._shared(), value, name))

    def Event(self, *, name: str | None = None) -> synchronize.Event:
        """Makes an event: a flag that processes can wait for. Otherwise as `Lock`."""
        from .sync import event

        return cast("synchronize.Event", event.Event(self._shared(), name))

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
    ) -> synchronize.Barrier:
        """Makes a barrier, at which processes wait for each other. Otherwise as `Lock`.

        Args:
            parties: how many processes or threads wait there in each round.
            action: one of them calls it in each round.
            timeout: seconds, for calls of `wait` that give none; None: without limit.
            name: for people to read.
        """
        from .sync import barrier

        return cast("synchronize.Barrier", barrier.Barrier(self._shared(), parties, action, timeout, name))

    def Queue(self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None) -> queues_.Queue[Any]:
        """Makes a queue that all processes of the cluster share. Otherwise as `Lock`.

        Items are in the memory of the scheduler, big ones in that of the node that has put them: if that node dies,
        `get` raises `MessageLostError` in their turn.

        Args:
            maxsize: number of items that the queue takes before `put` waits; 0: as many as memory allows.
            maxbytes: number of bytes, also as "64MB", that its items may have together before `put` waits; 0: as many
                as memory allows.
            name: for observers of the running program.
        """
        from .sync import queues

        return cast("queues_.Queue[Any]", queues.Queue(self._shared(), maxsize, maxbytes, name))

    def JoinableQueue(
        self, maxsize: int = 0, *, maxbytes: int | str = 0, name: str | None = None
    ) -> queues_.JoinableQueue[Any]:
        """Makes a queue with `task_done()` and `join()`. Otherwise as `Queue`."""
        from .sync import queues

        return cast("queues_.JoinableQueue[Any]", queues.JoinableQueue(self._shared(), maxsize, maxbytes, name))

    def SimpleQueue(self, *, name: str | None = None) -> queues_.SimpleQueue[Any]:
        """Makes a queue with only `put`, `get`, `empty` and `close`. Otherwise as `Queue`."""
        from .sync import queues

        return cast("queues_.SimpleQueue[Any]", queues.SimpleQueue(self._shared(), name))

    def _shared(self) -> Any:
        """Returns the connection of this process to the objects of the cluster."""
        members = self._members
        if members is not None and members.pid != os.getpid() and (found := members.shared_by_parent()) is not None:
            return found
        here = self.members().shared()
        here.context = weakref.ref(self)
        return here

    def upload(self, path: str | os.PathLike[str]) -> None:
        """Sends a module, a package or another file to all nodes, also to those that join later.

        Workers and processes of the nodes find it in a folder at the end of `sys.path`. A worker that has imported an
        older version of a module keeps that: upload before the pool is made. Other clients do not see the files, and
        `close()` removes them.

        Args:
            path: a file or a folder. It has the same name there. Links are replaced by what they lead to; broken ones,
                `__pycache__`, `.git` and `.venv` are left out.

        Raises:
            OSError: it cannot be read, or a node cannot store it.
            ValueError: it contains a pipe, a socket or a device.
            TimeoutError: a node does not answer for `node_timeout` seconds.
        """
        self.members().upload(path)

    def close(self) -> None:
        """Ends the connection to the cluster; the cluster itself goes on. Pools that use it break.

        After that the context raises ValueError when it is used; that of `get_context("dask")` connects again.
        """
        with self._lock:
            members, self._members = self._members, None
            self._closed = self._where is not None
        if members is not None:
            members.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if self is _from_environment:
            return dask_context, ()
        raise TypeError("the connection to a cluster cannot be sent to another process")


def _close_soon(members: Members) -> None:
    """Closes a connection in a thread: a garbage collection may happen in the thread of Dask's loop."""
    with suppress(RuntimeError):  # the interpreter ends
        threading.Thread(target=members.close, daemon=True).start()


def cluster(
    where: Any, *, security: Any = None, node_timeout: float = _TIMEOUT, insecure: bool = False
) -> ClusterContext:
    """Connects to a Dask cluster. Returns a context whose pools and processes run on its nodes.

    A node is a Dask worker process; its pool has one worker for each thread of that Dask worker. Leaving the `with`
    block, or `close()`, ends the connection, and not the cluster.

    Args:
        where: the address of the scheduler ("tls://host:8786"), or a `Client` or a `Cluster` of Dask.
        security: a `Security` of Dask, with the certificates for `tls://`.
        node_timeout: seconds. A node that is silent for longer is given up; a pool that has work and no node for longer
            is broken.
        insecure: allows plain `tcp://` beyond this machine: anyone who reaches a node there can run code on it.

    Returns:
        A context, as of `get_context()`, also for `with`. It has `Pool`, `Process`, `Manager`, `Lock` and `Queue` and
        the others of their kinds, `upload()`, `nodes()`, `cpu_count()` and `close()`, and
        `procession.futures.ProcessPoolExecutor` takes it as `mp_context`.

    Raises:
        ModuleNotFoundError: `distributed` is not installed (`pip install procession[dask]`).
        ConnectionError: no scheduler answers for `node_timeout` seconds; a RuntimeWarning tells of the wait.
        OSError: a file of `security` cannot be read.
        ValueError: the address has no port, is plain tcp beyond this machine, or is `tls://` and there are no valid
            certificates.
        RuntimeError: a node has other versions of Python, Procession or cloudpickle, or lacks them.

    If a node dies, its calls raise `NodeDiedError` or run again (`retries`); if the scheduler dies, `PoolBrokenError`,
    and methods of locks and queues raise `ConnectionError`.
    multiprocessing has no such function.

    Example:
        ```py
        import procession as mp
        from distributed import LocalCluster  # nodes on this machine

        def square(n):
            return n * n

        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as nodes:
                with mp.cluster(nodes) as c, c.Pool() as pool:
                    print(pool.map(square, range(4)))  # [0, 1, 4, 9]
        ```
    """
    limit = seconds("node_timeout", node_timeout)
    if not limit or limit == float("inf"):
        raise ValueError(f"node_timeout must be more than 0 and finite, not {node_timeout!r}")
    made = ClusterContext(where, security, limit, insecure)
    made.members()
    return made


def dask_context() -> ClusterContext:
    """Returns the context of `get_context("dask")`. It connects when it is first used."""
    global _from_environment  # noqa: PLW0603 (one for the program)
    if _from_environment is None:
        _from_environment = ClusterContext(None, None, _TIMEOUT, False)
    return _from_environment


_from_environment: ClusterContext | None = None
