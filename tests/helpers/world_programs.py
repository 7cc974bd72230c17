"""Programs that change the world that they run in, or lose a part of it."""

from __future__ import annotations

from pathlib import Path

import programs

HEAD = f"""
import os, select, signal, sys, tempfile, threading, time
sys.path[:0] = {[str(Path(__file__).parents[1] / folder) for folder in ("helpers", "survival")]!r}
import procession as mp
import worlds
from deadlines import until

def plus_one(x):
    return x + 1
"""


def program(folder: Path, text: str, *arguments: str) -> programs.Outcome:
    """Runs a program that has the names of `HEAD`, and can import `worlds` and the tests of `survival`."""
    file = programs.write(folder / "program.py", text)
    file.write_text(HEAD + file.read_text())
    return programs.run(file, *arguments)
