"""The house rules that no linter knows. Prints what breaks them; exit status 1 if anything does."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

# Where `unsafe` may stand, by folder: these files and no others. A file that holds none any more leaves the list.
UNSAFE_FILES = {
    # system calls, and types that processes share
    "crates/procession-core/src/sys/": "area cpu descriptor fork lifeline memory mod mutex pidfd shared spawn stream",
    # the mapping, and forks; bytes that are written before others know of them
    "crates/procession-core/src/family/": "alloc buffer fork join layout ledger private registry",
    "crates/procession-core/src/queue/": "put",
    "crates/procession-core/src/dict/": "change table",
    # what the loader calls before main
    "crates/procession-core/src/": "objects",
    # the interpreter's C interface
    "crates/procession-python/src/": "descriptors errors frame interpreter lib",
    "crates/procession-python/src/codec/": "array_module instance numbers pickle their_reducers tree",
    "crates/procession-python/src/connection/": "transfer",
    "crates/procession-python/src/memory/": "argument array buffer fresh view",
    "crates/procession-python/src/process/": "environment fork",
    "crates/procession-python/src/sync/": "fast guarded",
    # functions by their addresses; what the loader calls before main; what a new program inherits; views of family
    # memory; the value that a guard gives access to; unsafe functions for the caller
    "crates/procession/src/": "code entry lock memory shared startup",
    "crates/procession/src/process/": "fork",
}
UNSAFE_LISTED = {f"{folder}{name}.rs" for folder, names in UNSAFE_FILES.items() for name in names.split()}
# Tests and examples fork, kill and map as they please, and so does the program that measures the machine's limits.
UNSAFE_FREE = ["crates/*/tests/*", "crates/*/examples/*", "benchmarks/native/src/*"]

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
DEADLINE_CHECKED = ["tests/*/test_*.py"]

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
    holds_unsafe = False
    if path.endswith(LENGTH_CHECKED) and len(lines) > LONGEST and not matches(path, LENGTH_FREE):
        found.append(f"{path}: {len(lines)} lines, more than {LONGEST}: is it one idea?")
    for number, line in enumerate(lines, 1):
        if path.endswith(".rs") and not line.lstrip().startswith("//") and UNSAFE.search(line):
            holds_unsafe = True
            if path not in UNSAFE_LISTED and not matches(path, UNSAFE_FREE):
                found.append(f"{path}:{number}: unsafe outside the files that may hold it")
        if matches(path, DEADLINE_CHECKED) and DEADLINE.search(line):
            found.append(f"{path}:{number}: a deadline in seconds, where PATIENCE is meant")
        if not matches(path, FORBIDDEN_FREE):
            found += [f"{path}:{number}: {what}" for word, what in FORBIDDEN.items() if re.search(word, line)]
    if path in UNSAFE_LISTED and not holds_unsafe:
        found.append(f"{path}: holds no unsafe, and is listed as if it did")
    return found


def main() -> int:
    paths = tracked()
    found = [f"{path}: is listed for its unsafe, and is not there" for path in sorted(UNSAFE_LISTED.difference(paths))]
    found += [rule for path in paths for rule in broken_rules(path)]
    print("\n".join(found) if found else "house rules: kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
