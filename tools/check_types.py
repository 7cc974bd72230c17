"""Checks that every public name has a type that type checkers need not infer (`pyright --verifytypes`).

Users' type checkers infer the types of names without annotation in different ways. See "Type Completeness" in
https://typing.python.org/en/latest/guides/libraries.html.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    # The checker does not find what is installed beside its interpreter, such as numpy, by itself.
    paths = [str(ROOT / "python"), sysconfig.get_path("purelib")]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("basedpyright"),
            f"--pythonpath={sys.executable}",
            "--pythonplatform=Linux",
            "--verifytypes=procession",
            "--ignoreexternal",  # numpy's own types are not complete
            "--outputjson",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        sys.exit(f"basedpyright --verifytypes failed:\n{done.stdout}\n{done.stderr}")
    if not told["exportedSymbolCounts"]["withKnownType"]:
        sys.exit("basedpyright --verifytypes has not found the package")
    for symbol in told["symbols"]:
        for one in symbol["diagnostics"]:
            if one["severity"] == "error":
                place = ""
                if "file" in one:
                    place = f"{Path(one['file']).relative_to(ROOT)}:{one['range']['start']['line'] + 1}: "
                print(f"{place}{symbol['name']}: {one['message']}")
    complete: float = told["completenessScore"]
    if complete < 1:
        print(f"{complete:.1%} of the public names have a known type; it has to be all of them")
    return complete < 1


if __name__ == "__main__":
    sys.exit(main())
