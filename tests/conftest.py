"""What all tests have: the start methods to run under, and a look for processes that were left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import _pytest.runner
import pytest

import procession as mp
from deadlines import until

# pytest notes in the environment which test runs. A fork server would be replaced for every test: its children are to
# have the environment that their parent has.
_pytest.runner._update_current_test_var = lambda item, when: None


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> str:
    """The name of a start method; a test that asks for it runs once under each."""
    method: str = request.param
    return method


def fork_server() -> set[int]:
    """The pid of this process's fork server, if there is one: it stays from test to test."""
    module = sys.modules.get("procession.forkserver")
    return {module._forkserver._forkserver_pid} if module is not None else set()


def watcher() -> set[int]:
    """The pid of the watcher of named segments, if there is one: it stays for a while."""
    module = sys.modules.get("procession.resource_tracker")
    return {module._resource_tracker._pid} if module is not None else set()


def child_processes() -> set[int]:
    """The pids of this process's children, dead ones that nobody has waited for included; without the fork server
    and the watcher."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                found |= {int(pid) for pid in file.read().split()}
        except OSError:  # the thread has ended
            pass
    return found - fork_server() - watcher()


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Fails a test after which a child process is left, and kills it."""
    before = child_processes()
    yield
    try:
        # active_children() joins those that have ended
        until(lambda: not mp.active_children() and not child_processes() - before)
    except AssertionError:
        left = child_processes() - before
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for process in mp.active_children():
            process.kill()
            process.join()
        pytest.fail(f"processes left behind: {sorted(left)}")
