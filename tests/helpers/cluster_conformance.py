"""Runs CPython's own tests of locks and queues on a cluster: `python cluster_conformance.py ADDRESS [TEXT ...]`.

The processes of these tests run on the nodes, and their locks and queues are those of the cluster. Nodes import this
module, too. The last line that it prints is a JSON object: the outcome of each test by its name.
"""

from __future__ import annotations

import json
import sys
import unittest
from typing import Any

import procession as mp
from procession import _alias

_alias.install()

from test import _test_multiprocessing as theirs  # type: ignore[import-not-found, attr-defined, unused-ignore]  # noqa: E402

KINDS = ("Lock", "Semaphore", "Condition", "Event", "Barrier", "Queue")
_cluster: Any = None
_manager: Any = None


def _of_cluster(name: str) -> Any:
    return property(lambda self: getattr(_cluster, name))


class OnCluster:
    """What the tests take from their class. A number or a list that processes share is that of a manager."""

    TYPE = "processes"
    Process = _of_cluster("Process")
    Value = property(lambda self: _manager.Value)
    current_process = staticmethod(mp.current_process)
    active_children = staticmethod(mp.active_children)

    def DummyList(self) -> Any:
        return _manager.list()


for made in (
    "Lock",
    "RLock",
    "Semaphore",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Barrier",
    "Queue",
    "JoinableQueue",
):
    setattr(OnCluster, made, _of_cluster(made))
classes: list[Any] = []
for kind in KINDS:
    name = f"ClusterTest{kind}"
    classes.append(
        type(name, (OnCluster, getattr(theirs, f"_Test{kind}"), unittest.TestCase), {"__module__": __name__})
    )
    globals()[name] = classes[-1]


class Result(unittest.TestResult):
    """Notes the outcome of each test, and why it has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        bad = {case.id(): text for case, text in (*self.failures, *self.errors)}
        skipped = {case.id(): f"skipped: {text}" for case, text in self.skipped}
        name = ".".join(test.id().split(".")[-2:]).removeprefix("ClusterTest")
        self.outcomes[name] = bad.get(test.id()) or skipped.get(test.id()) or "ok"


def main(address: str, *texts: str) -> None:
    """Runs the tests whose names contain one of the texts; without texts all."""
    import cluster_conformance as module  # the classes under the name that nodes import

    cluster = mp.cluster(address)
    module._cluster = cluster
    module._manager = cluster.Manager()
    suite = unittest.TestSuite()
    for each in module.classes:
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(each):
            if not texts or any(text in test.id() for text in texts):  # type: ignore[union-attr]
                suite.addTest(test)
    result = module.Result()
    suite.run(result)
    print(json.dumps(result.outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
