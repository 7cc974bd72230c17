"""The house rules that no linter knows. Prints what breaks them; exit status 1 if anything does."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

# Where `unsafe` may stand. Everything else is safe Rust.
UNSAFE_ALLOWED = [
    "crates/procession-core/src/sys/*",
    "crates/procession-core/src/family/*",
    "crates/procession-core/src/objects.rs",  # what the loader calls before main
    "crates/procession-python/src/*",
    "crates/procession/src/code.rs",  # functions by their addresses
    "crates/procession/src/entry.rs",  # what the loader calls before main
    "crates/procession/src/startup.rs",  # what a new program inherits
    "crates/procession/src/memory.rs",  # views of family memory
    "crates/procession/src/shared.rs",  # unsafe functions for the caller: slices that others may write to
    "crates/procession/src/process/fork.rs",
    "crates/procession-core/examples/*",
    "crates/*/tests/*",  # tests and examples fork, kill and map as they please
    "crates/*/examples/*",
]

# A file is one idea. Tests are lists, and may be longer.
LONGEST = 600
LENGTH_CHECKED = (".rs", ".py", ".pyi")
LENGTH_FREE = ["tests/*", "*/tests/*", "python/procession/_core.pyi"]  # the stub of one compiled module is one file

# What belongs to one machine or one hosting and not to the project. Written so that this file does not match itself.
FORBIDDEN = {
    r"/(ro[o]t|wo[r]k|ho[m]e/[a-z])/": "a path of somebody's machine",
    r"crates[.]i[o]|pyp[i][.]org|pythonhoste[d][.]org|static[.]rust-lan[g]": "the host of a package registry",
}
FORBIDDEN_FREE = ["*Cargo.lock"]  # cargo writes it: it names the registry of every dependency

# Tests wait as long as `deadlines` says, which has measured the machine: for PATIENCE, in a program's text too.
DEADLINE = re.compile(r"\btimeout=\d\d|\.(join|wait|get|result)\(\d\d+\)")
DEADLINE_CHECKED = ["tests/test_*.py"]

UNSAFE = re.compile(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b|trait\b)|\ballow\(.*unsafe_code|\bexpect\(.*unsafe_code")


def matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def tracked() -> list[str]:
    """The files that are, or are about to be, part of the project."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    return [path for path in listing.stdout.splitlines() if Path(path).is_file()]


def broken_rules(path: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    found = []
    if path.endswith(LENGTH_CHECKED) and len(lines) > LONGEST and not matches(path, LENGTH_FREE):
        found.append(f"{path}: {len(lines)} lines, more than {LONGEST}: is it one idea?")
    for number, line in enumerate(lines, 1):
        is_comment = line.lstrip().startswith("//")
        if path.endswith(".rs") and not is_comment and UNSAFE.search(line) and not matches(path, UNSAFE_ALLOWED):
            found.append(f"{path}:{number}: unsafe outside the files that may hold it")
        if matches(path, DEADLINE_CHECKED) and DEADLINE.search(line):
            found.append(f"{path}:{number}: a deadline in seconds, where PATIENCE is meant")
        if not matches(path, FORBIDDEN_FREE):
            found += [f"{path}:{number}: {what}" for word, what in FORBIDDEN.items() if re.search(word, line)]
    return found


def main() -> int:
    found = [rule for path in tracked() for rule in broken_rules(path)]
    print("\n".join(found) if found else "house rules: kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
