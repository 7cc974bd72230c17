"""Makes the files of locks/: for each requirements-NAME.txt all packages that it needs, with versions and hashes.

One file holds for every Python from 3.11 on, on Linux. uv resolves; pip installs, with --require-hashes. A package that
is in a file already keeps its version, unless requirements-NAME.txt or --upgrade asks for another one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from check_dependencies import UNLOCKED

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("arrays", "clusters", "test")  # of requirements-dev.txt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions of what is not pinned")
    options = parser.parse_args()
    (ROOT / "locks").mkdir(exist_ok=True)
    names = [path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")]
    # that of .venv first: the environments of other Pythons have the same versions
    for name in sorted(names, key=lambda name: (name != "dev", name)):
        if name in UNLOCKED:
            continue
        command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--universal"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-annotate"]
        command += ["--custom-compile-command", "make locks"]
        command += ["--output-file", f"locks/{name}.txt", f"requirements-{name}.txt"]
        if name in PARTS:
            command += ["--constraint", "locks/dev.txt"]
        subprocess.run([*command, *(["--upgrade"] if options.upgrade else [])], check=True, cwd=ROOT)
        print(f"locks/{name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
