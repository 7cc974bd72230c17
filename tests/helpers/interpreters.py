"""The Pythons of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from deadlines import PATIENCE


@cache
def interpreter(version: str) -> str | None:
    """A CPython of that version: this one, one of PATH, or one of pyenv's."""
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    found = [sys.executable, shutil.which(f"python{version}"), *map(str, kept.glob(f"{version}.*/bin/python3"))]
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
    for candidate in filter(None, found):
        try:
            answer = subprocess.run(
                [candidate, "-c", ask], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.stdout.split() == [version, "cpython"]:
            return candidate
    return None
