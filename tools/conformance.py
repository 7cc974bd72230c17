"""Runs CPython's own tests of multiprocessing against Procession, and holds the ground that was won on them.

    conformance.py --harness RUN.PY            all of them, on every CPython found; exit status 1 if fewer pass than
                                               tests/conformance_floor.toml says, for any Python or start method
    conformance.py --harness RUN.PY --quick    on this Python those that must all pass

The harness takes CPython's tests from the Python that it runs; it is no part of this project.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from other_pythons import VERSIONS, answers, find

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ROOT / "tests" / "conformance_floor.toml"
RESULTS = ROOT / "target" / "conformance"
MARGIN = 2  # so many come and go with the load of the machine


def harness(options: argparse.Namespace, python: str, *more: str | Path) -> int:
    command = [sys.executable, options.harness, "--python", python, "--path", ROOT / "python", "--quiet", *more]
    return subprocess.run([str(word) for word in command], check=False, stdin=subprocess.DEVNULL).returncode


def passes(result: dict[str, Any]) -> Counter[str]:
    """How many tests of each label (a start method, or another group of tests) passed."""
    return Counter(test.partition("/")[0] for test, about in result["tests"].items() if about["verdict"] == "passed")


def check(result: dict[str, Any], floor: dict[str, Any], version: str) -> bool:
    """Says for each label whether its floor holds; whether all do."""
    if version not in floor["passes"]:
        print(f"conformance: NOT COMPARED, there is no floor for Python {version} in {FLOOR.name}")
        return True
    now, holds = passes(result), True
    for label, least in floor["passes"][version].items():
        verdict = "BELOW THE FLOOR" if now[label] < least else "holds"
        verdict += ", and can be raised" if now[label] > least + MARGIN else ""
        holds = holds and now[label] >= least
        print(f"conformance: {version} {label:20} {now[label]:4} passed, floor {least:4}: {verdict}")
    return holds


def interpreter(version: str) -> str | None:
    """Of an environment of ours, since that has what the tests may need; or whatever is found."""
    for environment in (".venv", f".venv-{version}"):
        python = str(ROOT / environment / "bin" / "python")
        if answers(python, version):
            return python
    return find(version)


def whole(options: argparse.Namespace, floor: dict[str, Any]) -> int:
    holds = True
    RESULTS.mkdir(parents=True, exist_ok=True)
    for version in options.version or VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: not found, NOT TESTED", flush=True)
            continue
        print(f"--- CPython's tests on Python {version}", flush=True)
        result = RESULTS / f"{version}.json"
        result.unlink(missing_ok=True)
        # 1: some fail, which the floor is to judge
        status = harness(options, python, "--start-method", "all", "--suite", "all", "--retry", "1", "--json", result)
        holds = status in (0, 1) and result.exists() and check(json.loads(result.read_text()), floor, version) and holds
    return 0 if holds else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", type=Path, required=True, help="its run.py")
    parser.add_argument("--quick", action="store_true", help="only those that must all pass, on this Python")
    parser.add_argument("--version", action="append", choices=VERSIONS, help="only this one; repeatable")
    options = parser.parse_args()
    floor = tomllib.loads(FLOOR.read_text())
    if options.quick:
        chosen = (f"--select={pattern}" for pattern in floor["quick"]["select"])
        return harness(options, sys.executable, "--suite", "core", "--test-timeout", "30", "--retry", "1", *chosen)
    return whole(options, floor)


if __name__ == "__main__":
    sys.exit(main())
