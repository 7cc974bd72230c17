"""A cluster whose connections are Dask's websockets."""

from __future__ import annotations

from pathlib import Path

import cluster_nodes
import procession as mp


def test_shared_objects_and_pools_work_over_websockets(tmp_path: Path) -> None:
    with (
        cluster_nodes.Nodes(tmp_path, 1, options=("--protocol", "ws")) as nodes,
        mp.cluster(nodes.address, insecure=True) as cluster,
    ):
        nodes.ready(cluster)
        queue, lock = cluster.Queue(), cluster.Lock()
        with lock:
            queue.put_many(["a", b"b" * 100_000])
        with cluster.Pool() as pool:
            assert pool.apply(queue.get) == "a"
        assert queue.get() == b"b" * 100_000
