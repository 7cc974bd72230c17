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

    def Queue(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Queue(*args, **kwargs)

    def JoinableQueue(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().JoinableQueue(*args, **kwargs)

    def SimpleQueue(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().SimpleQueue(*args, **kwargs)

    def Lock(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Lock(*args, **kwargs)

    def RLock(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().RLock(*args, **kwargs)

    def Semaphore(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Semaphore(*args, **kwargs)

    def BoundedSemaphore(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().BoundedSemaphore(*args, **kwargs)

    def Condition(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Condition(*args, **kwargs)

    def Event(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Event(*args, **kwargs)

    def Barrier(self, *args: Any, **kwargs: Any) -> Any:
        return dask_context().Barrier(*args, **kwargs)

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
