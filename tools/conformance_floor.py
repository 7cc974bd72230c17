"""Ground that was won on CPython's own tests, and must not be lost again.

    conformance_floor.py check RESULT.json     compares a whole run with the floor; exit status 1 if it is below
    conformance_floor.py select                prints the options that select the tests that must all pass

The floor is tests/conformance_floor.toml.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

MARGIN = 2  # so many come and go with the load of the machine
FLOOR = Path(__file__).resolve().parent.parent / "tests" / "conformance_floor.toml"


def passes(result: dict[str, Any]) -> Counter[str]:
    """How many tests of each label (a start method, or another group of tests) passed."""
    return Counter(test.partition("/")[0] for test, about in result["tests"].items() if about["verdict"] == "passed")


def check(result: dict[str, Any], floor: dict[str, Any]) -> int:
    python = ".".join(result["python"].split(".")[:2])
    if python not in floor["passes"]:
        print(f"conformance: NOT COMPARED, there is no floor for Python {python} in {FLOOR.name}")
        return 0
    now, below = passes(result), 0
    for label, least in floor["passes"][python].items():
        verdict = "BELOW THE FLOOR" if now[label] < least else "holds"
        verdict += ", and can be raised" if now[label] > least + MARGIN else ""
        below += now[label] < least
        print(f"conformance: {label:20} {now[label]:4} passed, floor {least:4}: {verdict}")
    return 1 if below else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check").add_argument("result", type=Path)
    commands.add_parser("select")
    options = parser.parse_args()
    floor = tomllib.loads(FLOOR.read_text())
    if options.command == "select":
        print(*(f"--select={pattern}" for pattern in floor["quick"]["select"]), sep="\n")
        return 0
    return check(json.loads(options.result.read_text()), floor)


if __name__ == "__main__":
    sys.exit(main())
