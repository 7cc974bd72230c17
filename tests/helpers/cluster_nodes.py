"""A scheduler and nodes of Dask, each a process of its own, on a port that is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from deadlines import PATIENCE, state, until

_HELPERS = Path(__file__).parent


class Nodes:
    """The processes of a cluster. Use it in `with`."""

    def __init__(
        self, folder: Path, count: int = 2, threads: int = 1, of: Nodes | None = None, **environment: str
    ) -> None:
        """of: a cluster without nodes, whose scheduler these nodes use, so that a test starts sooner."""
        self.folder = folder
        self.environment = {
            **os.environ,
            "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
            "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__DISK": "false",
            "PYTHONPATH": os.pathsep.join([str(_HELPERS), os.environ.get("PYTHONPATH", "")]),
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._threads = threads
        self._own: list[subprocess.Popen[bytes]] = []
        try:
            if of is None:
                place = folder / "scheduler.json"
                self.scheduler = self._start("dask_scheduler", "--port", "0", "--scheduler-file", str(place))
                self._own.append(self.scheduler)
                self.address: str = until(lambda: _address(place), 2 * PATIENCE)
            else:
                self.scheduler, self.address = of.scheduler, of.address
            for _ in range(count):
                self.add()
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--host", "127.0.0.1"]
        with open(self.folder / f"{module}-{len(self.nodes)}.log", "wb") as log:
            return subprocess.Popen(
                [*command, "--no-dashboard"],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def add(self) -> subprocess.Popen[bytes]:
        """Starts another node."""
        node = self._start(
            "dask_worker",
            self.address,
            *("--nthreads", str(self._threads), "--no-nanny", "--memory-limit", "0"),
            *("--name", f"node-{len(self.nodes)}"),
        )
        self.nodes.append(node)
        return node

    def ready(self, cluster: Any) -> Any:
        """Waits until a cluster's context knows all nodes that live. Asserts that these are ours, and returns it."""
        expected = {node.pid for node in self.nodes if node.poll() is None}
        until(lambda: {node.pid for node in cluster.nodes()} == expected, 2 * PATIENCE)
        return cluster

    def end(self) -> None:
        """Kills all processes."""
        for process in [*self.nodes, *self._own]:
            kill(process)


def kill(process: subprocess.Popen[bytes], how: int = signal.SIGKILL) -> None:
    """Sends a signal to a process alone, and waits for its end if it is killed by that."""
    if process.poll() is None:
        process.send_signal(how)
        if how == signal.SIGKILL:
            process.wait(PATIENCE)


def is_alive(pid: int) -> bool:
    return state(pid) not in "XZ"


def _address(place: Path) -> str | None:
    try:
        found: str = json.loads(place.read_text())["address"]
    except (OSError, ValueError):
        return None
    return found
