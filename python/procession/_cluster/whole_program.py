"""Makes a program that knows nothing of clusters run on one: `python -m procession --cluster ADDRESS script.py`."""

from __future__ import annotations

import os
import sys

from .. import context
from . import connect
from .context import ADDRESS, dask_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["use"]


def _of_cluster(name: str) -> Any:
    """Returns a method that calls the one of the context of the cluster."""

    def make(self: object, *args: Any, **kwargs: Any) -> Any:
        return getattr(dask_context(), name)(*args, **kwargs)

    make.__name__ = name
    return make


class _ClusterDefault(context.DefaultContext):
    """The default context of such a program. What it says about start methods is for one machine, and has no effect."""

    def get_context(self, method: str | None = None) -> context.BaseContext:  # type: ignore[override]
        """Returns the context of the cluster, or that of a start method: its objects are those of this machine."""
        return dask_context() if method is None else super().get_context(method)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Does nothing. ValueError: there is no such start method."""
        self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:  # type: ignore[override]
        """Returns "dask"."""
        return dask_context()._name

    def Manager(self, *, name: str | None = None) -> Any:
        """Starts a manager that the nodes reach. name: of its server process."""
        return dask_context().Manager(name=name)

    # What all processes of the cluster share. Memory (`Value`, `Array`) is that of one machine.

    Queue = _of_cluster("Queue")
    JoinableQueue = _of_cluster("JoinableQueue")
    SimpleQueue = _of_cluster("SimpleQueue")
    Lock = _of_cluster("Lock")
    RLock = _of_cluster("RLock")
    Semaphore = _of_cluster("Semaphore")
    BoundedSemaphore = _of_cluster("BoundedSemaphore")
    Condition = _of_cluster("Condition")
    Event = _of_cluster("Event")
    Barrier = _of_cluster("Barrier")

    def cpu_count(self) -> int:
        """Returns the number of cores of all nodes that are there now."""
        return dask_context().cpu_count()


def use(address: str) -> None:
    """Makes the functions of the package those of a cluster: `Pool`, `Process`, `Manager`, `cpu_count`, `Queue`,
    `Lock`, `Event` and the like. Those that make memory stay as they are.

    `concurrent.futures.ProcessPoolExecutor` becomes that of this package.

    address: that of the scheduler. It is connected to at the first use. ValueError: it is none, or has no port.
    """
    connect.full_address(address)
    import concurrent.futures.process as theirs

    from .. import futures

    os.environ[ADDRESS] = address
    default = context._default_context
    # contexts have a property of the name `__class__`
    object.__dict__["__class__"].__set__(default, _ClusterDefault)
    package = sys.modules[__name__.partition(".")[0]]
    for name in vars(_ClusterDefault):
        if name in vars(package):
            setattr(package, name, getattr(default, name))
    for module in (sys.modules["concurrent.futures"], theirs):
        module.ProcessPoolExecutor = futures.ProcessPoolExecutor  # type: ignore[attr-defined]
