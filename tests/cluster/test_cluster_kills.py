"""Processes and nodes that are killed while they use locks, conditions, barriers and semaphores."""

from __future__ import annotations

import random
import time

import procession as mp
from cluster_kills import Kills


def test_kills_of_processes_and_nodes_hang_no_wait_and_each_death_is_told_once(nodes):
    with mp.cluster(nodes.address) as cluster:
        nodes.ready(cluster)
        kills = Kills(cluster, nodes, 25)
        for number in range(24):
            time.sleep(random.random() / 10)  # any moment is a good one to kill something
            kills.kill_process() if number % 8 else kills.kill_node()
            kills.check()
            kills.refill()
        kills.finish()
        assert kills.killed["process"] > 10 and kills.killed["node"] == 3
