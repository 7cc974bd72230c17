"""Programs and libraries that know nothing of Procession do a small real job with it, and with the standard library.

Each job prints its results, and they must be the same. That Procession was really at work is seen from the modules
that were loaded at the end (`loaded.py`). Run by `make clients`, in an environment that has the libraries.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LONGEST = 120  # seconds that a job may take


@dataclass
class Job:
    name: str
    program: str
    uses: str  # the module of multiprocessing without which it has not been parallel
    optional: str = ""  # a library that is too big to be installed for this


JOBS = [
    Job("concurrent.futures", "futures_job.py", "queues"),
    Job("joblib, backend multiprocessing", "joblib_job.py", "pool"),
    Job("joblib, backend loky", "loky_job.py", "queues"),
    Job("flake8 -j", "flake8_job.py", "pool"),
    Job("sphinx-build -j", "sphinx_job.py", "connection"),
    Job("tqdm.contrib.concurrent", "tqdm_job.py", "queues"),
    Job("gymnasium's AsyncVectorEnv", "gymnasium_job.py", "sharedctypes"),
    Job("scipy, workers=", "scipy_job.py", "pool"),
    Job("joblib's mapped arrays", "joblib_memmap_job.py", "pool"),
    Job("ansible-playbook", "ansible_job.py", "queues"),
    Job("pebble, left open at exit", "pebble_job.py", "connection"),
    Job("green, with a finalizer", "green_job.py", "pool"),
    Job("pynisher's limits", "pynisher_job.py", "connection"),
    Job("gipc", "gipc_job.py", "process"),
    Job("scikit-learn", "sklearn_job.py", "pool"),
    Job("torch's queues", "torch_job.py", "queues", optional="torch"),
    Job("torch's DataLoader", "dataloader_job.py", "queues", optional="torch"),
    Job("debugpy", "debugpy_job.py", "process"),
    Job("viztracer", "viztracer_job.py", "process"),
    Job("coverage", "coverage_job.py", "process"),
]


def run(job: Job, *option: str) -> tuple[str, dict[str, str]]:
    """What the job prints, and which modules stood for those of multiprocessing at its end."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "loaded"
        folder = Path(name) / "work"
        folder.mkdir()
        command = [sys.executable, *option, str(HERE / job.program)]
        environment = {**os.environ, "LOADED": str(report)}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=LONGEST
        )
        if done.returncode:
            raise SystemExit(
                f"{job.name}: {' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout, dict(line.split("=") for line in report.read_text().splitlines())


def check(job: Job) -> None:
    began = time.monotonic()
    expected, theirs = run(job)
    middle = time.monotonic()
    printed, ours = run(job, "-m", "procession")
    end = time.monotonic()
    assert f"multiprocessing.{job.uses}" in theirs, f"{job.name} has not used multiprocessing.{job.uses}"
    assert f"procession.{job.uses}" in ours, f"{job.name} has not used procession.{job.uses}"
    strangers = {name: is_ for name, is_ in ours.items() if not is_.startswith("procession")}
    assert not strangers, f"{job.name} has used {strangers}"
    if printed != expected:
        raise SystemExit(f"{job.name}: printed\n{printed}\nwhere the standard library makes it\n{expected}")
    print(f"{job.name}: the same, in {end - middle:.1f} s and {middle - began:.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", default="", metavar="TEXT", help="only jobs whose name holds TEXT")
    options = parser.parse_args()
    for job in JOBS:
        if options.job not in job.name:
            continue
        if job.optional and importlib.util.find_spec(job.optional) is None:
            print(f"{job.name}: SKIPPED, there is no {job.optional} here", flush=True)
            continue
        check(job)
    return 0


if __name__ == "__main__":
    sys.exit(main())
