"""Statistics of the objects of a cluster."""

from __future__ import annotations

from ..._sync.statistics import Holder, Statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .handle import Handle

__all__ = ["statistics"]


def statistics(handle: Handle) -> Statistics:
    """Returns how all processes of the cluster have used an object until now."""
    facts = handle._call("facts")
    holder = None
    if facts["holders"]:
        _, _, _, pid, thread, process, node = facts["holders"][0]
        holder = Holder(pid, thread, f"{process} on {node}" if pid else process)
    return Statistics(
        handle.name,
        holder,
        len(facts["waiters"]),
        facts["acquisitions"],
        facts["contended"],
        facts["total_wait"],
    )
