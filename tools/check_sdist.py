"""Makes the source distribution, and checks that it is complete: it has all files that git tracks, and no other one.

`--build` also builds a wheel from it, as a user's `pip install` does, and has the wheel prove itself
(`tools/wheel_test.py`). That takes as long as a release build.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import wheel_test

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    ".cargo/config.toml",
    "CHANGELOG.md",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "docs/index.md",
    "python/README.md",
    "python/procession/__init__.py",
    "tests/conftest.py",
    "tools/backend/procession_build.py",
)


def tracked() -> set[str]:
    printed = subprocess.run(["git", "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    return {name for name in printed.split("\0") if name and (ROOT / name).exists()}


def contents(archive: Path) -> set[str]:
    """The files in it, without the folder that all of them are in."""
    with tarfile.open(archive) as files:
        return {member.name.partition("/")[2] for member in files.getmembers() if not member.isdir()}


def differences(found: set[str], wanted: set[str]) -> list[str]:
    made = {"PKG-INFO"}
    wrong = [f"the source distribution lacks {name}" for name in sorted({*wanted, *NEEDED, *made} - found)]
    strange = sorted(found - wanted - made)
    return wrong + [f"the source distribution has {name}, which git does not track" for name in strange]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "sdist", help="the folder for the archive")
    parser.add_argument("--build", action="store_true", help="also build a wheel from it, and use the wheel")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    # without --sdist, it builds a wheel too, from the archive
    only = [] if options.build else ["--sdist"]
    command = [sys.executable, "-m", "build", *only, "--outdir", str(options.out)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    (archive,) = options.out.glob("*.tar.gz")
    wrong = differences(contents(archive), tracked())
    print("\n".join(wrong) if wrong else f"{archive.name}: complete, {archive.stat().st_size / 1e6:.1f} MB")
    if options.build:
        (wheel,) = options.out.glob("*.whl")
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        wheel_test.prove(sys.executable, version, wheel.absolute())
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
