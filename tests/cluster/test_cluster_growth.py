"""What the scheduler, the nodes and the client keep of objects that were used and dropped: nothing."""

from __future__ import annotations

import gc
from typing import Any

import numpy

from cluster_tables import tables_of_node, tables_of_scheduler, use_all
from deadlines import until

KINDS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"]


def test_nothing_stays_in_the_scheduler_and_the_nodes_after_objects_were_used_and_dropped(cluster, shared_nodes):
    from distributed import Client

    with Client(shared_nodes.address, set_as_default=False) as client, cluster.Pool() as pool:
        pool.map(use_all, [cluster.Lock()])  # from here on each side has its connections
        use_all(cluster.Lock())
        gc.collect()

        def tables() -> Any:
            return client.run_on_scheduler(tables_of_scheduler), client.run(tables_of_node)

        before = until(lambda: stays(tables))
        for _ in range(100):
            use_all(cluster.Lock(), *[getattr(cluster, kind)(*((1,) if kind == "Barrier" else ())) for kind in KINDS])
        queue = cluster.JoinableQueue()
        for n in range(100):
            queue.put(numpy.zeros(200_000 if n % 10 == 0 else 10))
            queue.get()
            queue.task_done()
        del queue
        gc.collect()
        until(lambda: tables() == before)
        cluster.Lock().locked()  # `got` goes with the next call of a client
        until(lambda: tables() == before)


def stays(tables):
    """Returns what does not change any more."""
    found = tables()
    return found if found == tables() else None
