"""Programs in interpreters of their own, for what is global to a process.

Children import this module with that of their test, and run no programs: what only running needs is imported there.
"""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from deadlines import scaled, slowness


class Outcome(NamedTuple):
    """How a program ended, and what it printed."""

    code: int
    out: str
    err: str

    def well(self) -> str:
        """What it printed, once it is certain that it ended well and complained of nothing."""
        assert (self.code, self.err) == (0, ""), f"exit code {self.code}\n{self.out}\n{self.err}"
        return self.out


def run(*arguments: str | os.PathLike[str], cwd: Path | None = None, stdin: str = "", **environment: str) -> Outcome:
    """Runs this Python with these arguments; kills it after 50 seconds, more on a slow machine.

    PATIENCE in a program that is given as text stands for the number of `deadlines`.

    Its output goes to files: children that outlive it would keep a pipe open, and so keep us waiting.
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            [sys.executable, *(scaled(word) if isinstance(word, str) else word for word in arguments)],
            cwd=cwd,
            input=scaled(stdin),
            env={**os.environ, **environment},
            stdout=out,
            stderr=err,
            text=True,
            timeout=50 * slowness(),
            check=False,
        )
        out.seek(0)
        err.seek(0)
        return Outcome(done.returncode, out.read(), err.read())


def write(path: Path, text: str) -> Path:
    """Writes an indented text to a file; the folders it is in are made; PATIENCE is the number of `deadlines`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scaled(textwrap.dedent(text)))
    return path
