"""A scheduler and nodes of Dask, each a process of its own, on a port that is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask_zygote import Forked, Zygote
from deadlines import PATIENCE, state, until

Process = subprocess.Popen[bytes] | Forked

_HELPERS = Path(__file__).parent


class Nodes:
    """The processes of a cluster. Use it in `with`."""

    def __init__(
        self,
        folder: Path,
        count: int = 2,
        threads: int = 1,
        of: Nodes | None = None,
        options: Sequence[str] = (),
        host: str = "127.0.0.1",
        **environment: str,
    ) -> None:
        """of: a cluster without nodes, whose scheduler these nodes use, so that a test starts sooner. options: of the
        command lines of all.
        """
        self._options = options
        self._host = host
        self.folder = folder
        self.environment = {
            **os.environ,
            "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
            "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__DISK": "false",
            "PYTHONPATH": os.pathsep.join([str(_HELPERS), os.environ.get("PYTHONPATH", "")]),
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        self._special = bool(environment or options) or host != "127.0.0.1"
        self.nodes: list[Process] = []
        self._added = 0  # the scheduler takes no name twice
        self._threads = threads
        self._own: list[Process] = []
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

    def _start(self, module: str, *arguments: str, prefix: Sequence[str] = (), host: str | None = None) -> Process:
        options = [*arguments, "--host", host or self._host, *self._options, "--no-dashboard"]
        log = self.folder / f"{module}-{len(self.nodes)}.log"
        if not self._special and not prefix:
            return _zygote(self.environment).start(module, options, self.folder, log)
        command = [*prefix, sys.executable, "-m", f"distributed.cli.{module}", *options]
        with open(log, "wb") as file:
            return subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=file, stderr=file, start_new_session=True
            )

    def add(self, prefix: Sequence[str] = (), host: str | None = None) -> Process:
        """Starts another node. prefix: words before its command. host: its address."""
        node = self._start(
            "dask_worker",
            self.address,
            *("--nthreads", str(self._threads), "--no-nanny", "--memory-limit", "0"),
            *("--name", f"node-{self._added}"),
            prefix=prefix,
            host=host,
        )
        self._added += 1
        self.nodes.append(node)
        return node

    def restart(self) -> None:
        """Kills the scheduler, and starts another at its address. The nodes end; `add` starts others."""
        kill(self.scheduler)
        place = self.folder / "another.json"
        port = self.address.rpartition(":")[2]
        self.scheduler = self._start("dask_scheduler", "--port", port, "--scheduler-file", str(place))
        self._own.append(self.scheduler)
        until(lambda: _address(place) == self.address, 2 * PATIENCE)

    def ready(self, cluster: Any) -> Any:
        """Waits until a cluster's context knows all nodes that live. Asserts that these are ours, and returns it."""
        expected = {node.pid for node in self.nodes if node.poll() is None}
        until(lambda: {node.pid for node in cluster.nodes()} == expected, 2 * PATIENCE)
        return cluster

    def end(self) -> None:
        """Kills all processes."""
        for process in [*self.nodes, *self._own]:
            kill(process)


def _zygote(environment: dict[str, str]) -> Zygote:
    if not _zygotes:
        _zygotes.append(Zygote(environment))
    return _zygotes[0]


def end_zygote() -> None:
    """Ends the process that forks nodes. Another is started when it is needed."""
    while _zygotes:
        _zygotes.pop().end()


_zygotes: list[Zygote] = []


def kill(process: Process, how: int = signal.SIGKILL) -> None:
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
