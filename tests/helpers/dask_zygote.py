"""Starts schedulers and nodes of Dask by fork, from a process that has imported Dask once: that takes two seconds."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["Forked", "Zygote"]

DIED = 255  # the exit code: that of a child of another process is not known


class Forked:
    """A process that the zygote has forked, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def __del__(self) -> None:
        os.close(self._fd)

    def poll(self) -> int | None:
        """Returns None while the process runs."""
        return DIED if select.select([self._fd], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. TimeoutExpired: it still runs."""
        if not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return DIED

    def send_signal(self, number: int) -> None:
        """Sends a signal, if the process has not ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, number)


class Zygote:
    """The process that forks the others. It ends when this process does."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(self, module: str, arguments: list[str], folder: Path, log: Path) -> Forked:
        """Starts `distributed.cli.<module>` with these arguments, in a folder, with its output in a file."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([module, arguments, str(folder), str(log)]), file=self._process.stdin, flush=True)
        return Forked(int(self._process.stdout.readline()))

    def end(self) -> None:
        """Ends the zygote. What it has forked goes on."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    import warnings

    warnings.simplefilter("ignore")
    from distributed.cli import dask_scheduler, dask_worker

    modules: dict[str, Any] = {"dask_scheduler": dask_scheduler, "dask_worker": dask_worker}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    for line in sys.stdin:
        module, arguments, folder, log = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.chdir(folder)
            fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            for old, new in ((null, 0), (fd, 1), (fd, 2)):
                os.dup2(old, new)
            try:
                modules[module].main(arguments, standalone_mode=False)
            finally:
                os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
