"""Compares the public names of the crate `procession` with `crates/procession/public-api.txt`, which `--write` writes.

So each change of the public API is a change in that file, which a reviewer sees. The names are those of the
documentation of all features, as cargo-public-api prints them, and which types are `Send` and `Sync`. The compiler
writes that documentation as JSON only if it may use what is not stable yet: `RUSTC_BOOTSTRAP=1`.

With a tag `v*` in the history, cargo-semver-checks also compares with the last one. What is not installed is skipped
aloud; `--install` installs it into target/tools.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "crates/procession/public-api.txt"
TOOLS = ROOT / "target/tools"
TARGET = ROOT / "target/api"
# Of the traits that the compiler implements by itself, those that are no promise.
LEFT_OUT = re.compile(r"impl(<.*?>)? core::(marker::(Freeze|Unpin|UnsafeUnpin)|panic::unwind_safe::\w+) for ")


def tool(name: str, install: bool) -> str | None:
    """The path of a program; None, and a message, if it is not here."""
    found = shutil.which(name, path=f"{TOOLS / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None and install:
        command = ["cargo", "install", "--quiet", "--locked", "--root", str(TOOLS), name]
        if subprocess.run(command, check=False).returncode == 0:
            found = str(TOOLS / "bin" / name)
    if found is None:
        print(f"{name}: SKIPPED, it is not here (cargo install --locked {name})")
    return found


def public_names(program: str) -> list[str]:
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1"}
    command = ["cargo", "rustdoc", "--quiet", "--package", "procession", "--all-features"]
    command += [
        "--target-dir",
        str(TARGET),
        "--",
        "-Zunstable-options",
        "--output-format",
        "json",
        "--cap-lints",
        "allow",
    ]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    command = [program, "public-api", "--omit", "blanket-impls,auto-derived-impls"]
    command += ["--rustdoc-json", str(TARGET / "doc/procession.json")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return [line for line in done.stdout.splitlines(keepends=True) if not LEFT_OUT.match(line)]


def main() -> int:
    install, write = "--install" in sys.argv, "--write" in sys.argv
    wrong = False
    if program := tool("cargo-public-api", install):
        names = public_names(program)
        if write:
            EXPECTED.write_text("".join(names))
        before = EXPECTED.read_text().splitlines(keepends=True) if EXPECTED.exists() else []
        changes = list(difflib.unified_diff(before, names, EXPECTED.name, "the sources", n=0))
        sys.stdout.writelines(changes)
        if changes:
            print("the public API is another one: `make public-api API=--write` if that is meant")
            wrong = True
    command = ["git", "describe", "--tags", "--match", "v*", "--abbrev=0"]
    tag = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    if not tag:
        print("cargo-semver-checks: SKIPPED, there is no release to compare with")
    elif program := tool("cargo-semver-checks", install):
        command = [program, "semver-checks", "--package", "procession", "--baseline-rev", tag]
        wrong |= subprocess.run(command, check=False, cwd=ROOT).returncode != 0
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
