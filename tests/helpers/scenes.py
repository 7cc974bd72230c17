"""Programs that hang, and looks at them from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deadlines import until
from procession import _core

SOON = 1.0  # seconds from the start of a scene in which `why` finds what is wrong
TOLERANCE = 0.2  # seconds by which a time may be wrong

SCENES = Path(__file__).parents[1] / "inside" / "scenes"


def command(*arguments: str) -> tuple[str, str, int]:
    """Runs the command `procession` in this process: its output, its errors, its exit status."""
    return _core._inspect_command(list(arguments))


def report(pid: int) -> dict[str, Any]:
    """What `procession why --json` says of the family of a process."""
    output, errors, status = command("why", "--json", str(pid))
    assert status in (0, 1), errors
    found: dict[str, Any] = json.loads(output)
    assert status == (1 if found["findings"] else 0)
    return found


class Scene:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[str], started: float) -> None:
        self.process = process
        self.pid = process.pid
        self.started = started
        self.began = time.monotonic()
        self.found = False

    def report(self) -> dict[str, Any]:
        """What `why` says now."""
        return report(self.pid)

    def finding(self, kind: str, that: Callable[[dict[str, Any]], bool] = lambda finding: True) -> dict[str, Any]:
        """Waits until `why` has a finding of this kind for which that(finding) is true, and returns it.

        It must be there within a second of the start of the scene. On a machine that is busy it may come later, which a
        warning at the end of the run says. How long it says that the waits last is checked in any case.
        """

        def found() -> dict[str, Any] | None:
            findings = self.report()["findings"]
            return next((one for one in findings if one["kind"] == kind and that(one)), None)

        finding = until(found)
        now = time.monotonic()
        if not self.found and now - self.began > SOON:
            late = f"{kind} was found {now - self.began:.1f} s after the start of the scene: the machine was busy"
            warnings.warn(late, stacklevel=2)
        self.found = True
        seconds = finding["seconds"]
        assert seconds is None or 0 <= seconds <= now - self.started + TOLERANCE, (seconds, now - self.started)
        return finding

    def member(self, name: str) -> dict[str, Any]:
        """The member of this name."""
        return next(member for member in self.report()["family"]["members"] if member["name"] == name)


@contextlib.contextmanager
def scene(name: str, *arguments: str, ready: bool = True, **environment: str) -> Iterator[Scene]:
    """Runs a program of tests/inside/scenes until it says that it is ready; kills it and its family at the end."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(SCENES / f"{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        if ready:
            line = process.stdout.readline()
            assert line == "ready\n", process.communicate()[1]
        yield Scene(process, started)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Kills a program with all members of its family."""
    members: list[int] = []
    with contextlib.suppress(AssertionError):
        members = [member["pid"] for member in report(process.pid)["family"]["members"] if member["pid"]]
    # A child that has not taken its seat yet is no member, but of the same group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in {process.pid, *members}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in members))
