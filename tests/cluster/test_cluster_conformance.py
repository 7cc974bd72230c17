"""CPython's own tests of locks and queues, whose processes run on two nodes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from deadlines import PATIENCE

PROGRAM = Path(__file__).parents[1] / "helpers" / "cluster_conformance.py"

# Tests that fail on a cluster, and the reason.
ALLOWED = {
    "Barrier.test_thousand": "its processes send through a Pipe, which is of one machine",
    "Queue.test_queue_feeder_donot_stop_onexc": "put raises, where the standard library logs it later",
}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("test") is None or importlib.util.find_spec("test._test_multiprocessing") is None,
    reason="NOT TESTED: this Python has no tests of its own",
)
@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "Condition", "Event", "Barrier", "Queue"])
def test_pythons_own_tests_pass_on_a_cluster_but_for_those_with_a_reason(shared_nodes, kind):
    command = [sys.executable, "-W", "ignore", str(PROGRAM), shared_nodes.address, f"Test{kind}."]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=4 * PATIENCE, check=True)
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert len(outcomes) >= 2
    bad = {name: why for name, why in outcomes.items() if why != "ok"}
    assert bad.keys() == {name for name in ALLOWED if name in outcomes}, "\n".join(bad.values())
