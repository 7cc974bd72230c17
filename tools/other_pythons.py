"""Runs the tests on every CPython that is found besides the one of .venv.

The wheel is built once: the extension uses Python's stable interface, so one build serves all versions. A free-threaded
Python has no such interface, and gets a build of its own. Each Python gets an environment of its own, .venv-X.Y. The
tests of clusters need Dask, which takes a while to install: they run only with --clusters.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
FREE_THREADED = "3.14t"  # as its program is named; older ones are not supported by PyO3
ALL = (*VERSIONS, FREE_THREADED)
ASK = """
import sys, sysconfig, venv, ensurepip
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(sys.implementation.name, "%d.%d%s" % (*sys.version_info[:2], free))
"""


def answers(executable: str, version: str) -> bool:
    """Whether this is a CPython of that version that can make environments. (A name on PATH may be a mere stand-in.)"""
    try:
        answer = subprocess.run([executable, "-c", ASK], check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.split() == ["cpython", version]


def find(version: str) -> str | None:
    """An interpreter of that version: from PATH, or from where pyenv keeps its versions."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    number, free = version.rstrip("t"), "t" if version.endswith("t") else ""
    kept = sorted(pyenv.glob(f"{number}.*{free}/bin/python3"), key=lambda path: path.parts[-3].split("."), reverse=True)
    candidates = ([on_path] if on_path else []) + [str(path) for path in kept]
    return next((candidate for candidate in candidates if answers(candidate, version)), None)


def run(*command: str | Path) -> None:
    """Runs a command; if it fails, so do we."""
    done = subprocess.run([str(word) for word in command], check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(done.returncode)


def build_wheel(maturin: str, folder: Path, free_threaded: str | None = None) -> Path:
    """Builds the wheel for all Pythons, or the one for this free-threaded Python. Empties the folder first."""
    shutil.rmtree(folder, ignore_errors=True)
    command: list[str | Path] = [maturin, "build", "--release", "--quiet", "--out", folder]
    if free_threaded:  # in a folder of its own, or each build would compile PyO3 anew
        command += ["--interpreter", free_threaded, "--target-dir", "target/free-threaded"]
    run(*command)
    [wheel] = folder.glob("*.whl")
    return wheel


def test_with(executable: str, version: str, wheel: Path, workers: int, clusters: bool) -> None:
    environment = Path(f".venv-{version}")
    python = environment / "bin" / "python"
    if not answers(str(python), version):
        shutil.rmtree(environment, ignore_errors=True)
        run(executable, "-m", "venv", environment)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    locked = (*pip, "--require-hashes", "--requirement")
    run(*locked, "locks/test.txt")
    try:
        run(*locked, "locks/arrays.txt", "--only-binary", "numpy")
    except SystemExit:
        print(f"Python {version}: numpy is not to be had, tests that need it are skipped", flush=True)
    run(*pip, "--force-reinstall", "--no-deps", wheel)  # the same version number may have new contents
    if clusters:
        tests = ["tests/cluster"]
        run(*locked, "locks/clusters.txt")
    else:
        tests = ["tests", "--ignore", "tests/cluster"]
        print(f"Python {version}: the tests of clusters are NOT RUN here, but by `make test-clusters`", flush=True)
    try:
        run(python, "-m", "pytest", *tests, "-n", str(workers), "--dist", "worksteal")
    except (subprocess.CalledProcessError, SystemExit):
        print(
            "ONCE MORE, what failed above (all of them, if the run was cut off): these tests wait with deadlines, "
            "and the machine may have been busy",
            flush=True,
        )
        run(python, "-m", "pytest", *tests, "--last-failed", "--last-failed-no-failures", "all")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="the folder to build the wheel in")
    parser.add_argument("--maturin", default="maturin")
    parser.add_argument("--workers", type=int, default=2, help="number of tests that run at the same time")
    parser.add_argument("--clusters", action="store_true", help="run the tests of clusters, instead of all others")
    options = parser.parse_args()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {version: find(version) for version in ALL if version != here}
    for version, executable in found.items():
        print(f"Python {version}: {executable or 'not found, NOT TESTED'}", flush=True)
    present = {version: executable for version, executable in found.items() if executable}
    if options.clusters and present.pop(FREE_THREADED, None):
        print(f"Python {FREE_THREADED}: the tests of clusters are NOT RUN there")
    if present:
        wheel = build_wheel(options.maturin, options.wheels)
        for version, executable in present.items():
            if version == FREE_THREADED:
                wheel = build_wheel(options.maturin, options.wheels / "free-threaded", executable)
            print(f"--- {'the tests of clusters' if options.clusters else 'the tests'} on Python {version}", flush=True)
            test_with(executable, version, wheel, options.workers, options.clusters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
