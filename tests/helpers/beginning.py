"""What a run of the tests does before it imports the package: `tests/conftest.py` imports this first."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import deadlines
from remains import Run

# of the whole run, and so of the process that pytest-xdist's workers are started by
RUN = None if "PYTEST_XDIST_WORKER" in os.environ else Run()

deadlines.measure()

# The start method to take for this Python's default: here, and in the programs that tests run.
DEFAULT_START = os.environ.get("PYTHON_DEFAULT_START")
if DEFAULT_START:
    folder = Path(__file__).parent / "default_start"
    runpy.run_path(str(folder / "sitecustomize.py"))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(folder), *(path for path in paths if path not in ("", str(folder)))]
    )
