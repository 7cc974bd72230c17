"""What the scheduler and the nodes of a cluster keep for shared objects, and uses of these."""

from __future__ import annotations


def use_all(*objects):
    """Uses locks, with and without waits that end by their timeouts."""
    for each in objects:
        if hasattr(each, "acquire"):
            each.acquire()
            each.acquire(timeout=0.0001)
            each.release()
        if hasattr(each, "set"):
            each.wait(0.0001)
            each.set()
        if hasattr(each, "parties"):
            each.wait()


def tables_of_scheduler(dask_scheduler):
    service = dask_scheduler.handlers["procession_sync"].__self__
    hub, links = service.hub, service.links.values()
    return (
        len(hub.objects),
        len(hub._open),
        len(service.asked),
        len(service.spoken),
        sum(len(process.objects) for process in hub.processes.values()),
        sum(len(process.threads) for process in hub.processes.values()),
        sum(len(link._owners) for link in links),
    )


def tables_of_node(dask_worker):
    relay = dask_worker._procession_relay
    return len(relay.channels), len(relay._processes), len(relay._tasks), relay.from_process["keep"].__self__.facts()
