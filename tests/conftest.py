"""What all tests have: the start methods to run under, and a look for processes that were left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _pytest.runner
import pytest

import beginning
import deadlines
import procession as mp
from deadlines import until

START_METHODS = ("fork", "spawn", "forkserver")

# Children get this path, and import the module of their test without pytest.
sys.path.insert(0, str(Path(__file__).parent / "helpers" / "in_children"))

# pytest notes in the environment which test runs. A fork server would be replaced for every test: its children are to
# have the environment that their parent has.
_pytest.runner._update_current_test_var = lambda item, when: None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """On a slow or busy machine a test may take longer, too."""
    if config.option.timeout is None:
        config.option.timeout = float(config.getini("timeout")) * deadlines.slowness()


@pytest.hookimpl(trylast=True)
def pytest_report_header(config: pytest.Config) -> str:
    """Says what the machine's measure was, and the default start method if it is not Python's."""
    method = beginning.DEFAULT_START
    chosen = f", default start method: {method}" if method else ""
    return f"deadlines: {deadlines.PATIENCE:.0f} s{chosen}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fails the run if anything of it is left. Workers have gone by then."""
    yield
    left = beginning.RUN.remains() if beginning.RUN is not None else {}
    if left:
        lines = [f"LEFT BEHIND: {kind}: {thing}" for kind, things in left.items() for thing in things]
        print("\n" + "\n".join(lines), file=sys.stderr)
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option for a quick look: what runs under each start method runs under one."""
    parser.addoption(
        "--start-method", choices=START_METHODS, help="run tests under this start method where they allow it"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that asks for `start_method` or `context` under each start method, or those that its mark names."""
    if "start_method" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("start_methods")
        methods = mark.args if mark is not None else START_METHODS
        wanted = metafunc.config.getoption("start_method")
        if wanted is not None:
            methods = (wanted if wanted in methods else methods[0],)
        metafunc.parametrize("start_method", methods, indirect=True)


@pytest.fixture
def start_method(request: pytest.FixtureRequest) -> str:
    """The name of a start method: see `pytest_generate_tests`."""
    method: str = request.param
    return method


@pytest.fixture
def context(start_method: str) -> Any:
    """The context of a start method."""
    return mp.get_context(start_method)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests that need root where it is another user that runs them."""
    if item.get_closest_marker("root") is not None and os.getuid() != 0:
        pytest.skip("only root may do this")


def helpers() -> set[int]:
    """The pids of the processes that stay from test to test: the fork server and the watcher of named segments, if
    there are any, of this package and of the standard library."""
    found = set()
    for package in ("procession", "multiprocessing"):
        server = sys.modules.get(f"{package}.forkserver")
        watcher = sys.modules.get(f"{package}.resource_tracker")
        found |= {server._forkserver._forkserver_pid} if server is not None else set()
        found |= {watcher._resource_tracker._pid} if watcher is not None else set()
    return found


def child_processes() -> set[int]:
    """The pids of this process's children, dead ones that nobody has waited for included; without those that
    stay."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children") as file:
                found |= {int(pid) for pid in file.read().split()}
        except OSError:  # the thread has ended
            pass
    return found - helpers()


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
