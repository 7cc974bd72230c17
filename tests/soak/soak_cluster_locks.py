"""Kills processes and nodes of a cluster at random that use its locks, conditions, barriers and semaphores.
`make soak-cluster-locks` runs it.

No wait may last for long, each death of a holder is told once at most, and all objects are free at the end.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import cluster_nodes
import procession as mp
from cluster_kills import Kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    rng = random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory() as place,
        cluster_nodes.Nodes(Path(place), 3) as nodes,
        mp.cluster(nodes.address) as cluster,
    ):
        nodes.ready(cluster)
        kills = Kills(cluster, nodes, options.seed)
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.5, 1.5) * options.every)
            if rng.random() < 0.03:
                kills.kill_node()
            else:
                kills.kill_process()
            kills.check()
            kills.refill()
        kills.finish()
        print(f"killed: {dict(kills.killed)}; {len(kills.told)} deaths of holders were told, each once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
