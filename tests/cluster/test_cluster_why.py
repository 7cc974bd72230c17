"""`procession why --cluster`: what it says of processes on several nodes that wait for each other."""

from __future__ import annotations

import json
import subprocess
import sys

import cluster_tasks as tasks
from deadlines import PATIENCE, until
from procession._cluster.sync.hub import Hub, Owner
from procession._cluster.sync.kinds import kinds
from procession._cluster.sync.why import findings, told


def why(address, *options):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "procession.inspect", "why", "--cluster", address, *options],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


def test_a_deadlock_across_machines_is_explained(cluster):
    first, second = cluster.RLock(name="ledger"), cluster.RLock(name="accounts")
    ready, other = cluster.Event(), cluster.Event()
    left = cluster.Process(target=tasks.two_locks, args=(first, second, ready, other), name="left", node="node-0")
    right = cluster.Process(target=tasks.two_locks, args=(second, first, other, ready), name="right", node="node-1")
    address = cluster.members().address
    left.start()
    right.start()
    until(lambda: first.statistics().waiters and second.statistics().waiters)
    done = why(address)
    right.kill()
    right.join()
    left.kill()
    left.join()
    assert done.returncode == 1, done.stderr
    assert "DEADLOCK  2 threads wait for each other" in done.stdout
    assert f'left {left.pid} on node-0   holds RLock "ledger" and waits for RLock "accounts", for' in done.stdout
    assert f'right {right.pid} on node-1  holds RLock "accounts" and waits for RLock "ledger", for' in done.stdout
    done = why(address, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["findings"] == []


def test_a_scheduler_without_objects_or_none_at_all_is_said_in_one_sentence(whole):
    done = why(whole.address)
    assert done.returncode == 0 and "0 objects, nothing wrong" in done.stdout
    done = why("127.0.0.1:9", "--timeout", "0.5")
    assert done.returncode == 2 and done.stderr.startswith("procession: no scheduler answers at tcp://127.0.0.1:9")
    assert len(done.stderr.splitlines()) == 1


A, B, C = Owner("one", 1, 1), Owner("two", 1, 1), Owner("two", 2, 1)


def hub_with(*names):
    """A hub with three processes, and locks of these kinds."""
    answers = []
    hub = Hub(lambda owner, number, answer: answers.append(answer), kinds(), lambda: 0.0)
    for owner in (A, B, C):
        hub.process_began(*owner[:2], 10 + owner.process, f"p{owner.process}", owner.node)
    for name in names:
        hub.request(A, 1, 0, "make", ["lock", name, name.startswith("r")])
    return hub, [answer[1] for answer in answers]


def test_a_circle_of_locks_is_suspected_as_any_process_may_release_one():
    hub, (one, two) = hub_with("one", "two")
    for owner, lock in ((A, one), (B, two), (B, one), (A, two), (C, one)):
        hub.request(owner, 10 + lock, lock, "acquire", [True])
    (found,) = findings(hub.facts())
    assert found["suspected"]
    assert any("behind them: p2 12 on two" in line for line in found["lines"])
    assert "DEADLOCK (suspected)" in told("here", hub.facts(), [found])


def test_a_wait_with_a_limit_is_no_deadlock():
    hub, (one, two) = hub_with("r1", "r2")
    for owner, lock, limited in ((A, one, False), (B, two, False), (B, one, True), (A, two, False)):
        hub.request(owner, 10 + lock, lock, "acquire", [True], limited)
    assert findings(hub.facts()) == []
    assert "with a limit" in told("here", hub.facts(), [])


def test_a_thread_that_waits_for_itself_and_a_lock_that_was_left_held_are_found():
    hub, (one, two) = hub_with("one", "two")
    hub.request(A, 10, one, "acquire", [True])
    hub.request(A, 11, one, "acquire", [True])
    hub.request(B, 12, two, "acquire", [True])
    hub.request(C, 13, two, "acquire", [True])
    hub.process_ended("two", 1, 0)
    assert [found["kind"] for found in findings(hub.facts())] == ["DEADLOCK", "LEFT HELD"]
    assert "exit code 0" in told("here", hub.facts(), findings(hub.facts()))


def test_its_help_has_one_usage():
    told = subprocess.run(
        [sys.executable, "-m", "procession.inspect", "why", "--cluster", "tls://host:1", "--help"],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    ).stdout
    assert told.startswith("usage: procession why --cluster ADDRESS")
    assert "--timeout SECONDS" in told
