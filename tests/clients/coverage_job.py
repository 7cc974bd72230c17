"""Coverage is measured in the children, however they were started, in both ways in which it can be told to."""

import subprocess
import sys
from pathlib import Path

import loaded  # noqa: F401
from watched import __file__ as WATCHED

LONGEST = 60  # seconds that a program may take
WAYS = {"multiprocessing": "concurrency = multiprocessing", "patch": "patch = subprocess, fork, _exit"}


def measure(package, way, option):
    """What the program printed, and which of its lines were missed."""
    Path("settings").write_text(f"[run]\nparallel = true\n{WAYS[way]}\n")
    coverage = ["-m", "coverage"]
    printed = run([*option, *coverage, "run", "--rcfile=settings", WATCHED, package])
    run([*coverage, "combine", "--quiet", "--rcfile=settings"])
    report = run([*coverage, "report", "--show-missing", "--rcfile=settings", f"--include={WATCHED}"])
    return printed, report.splitlines()[2].split()[-3:]


def run(words):
    return subprocess.run(
        [sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True, timeout=LONGEST
    ).stdout


def main():
    # with the alias if this process has it, and that is so under the second run of this job
    alias = ["-m", "procession"] if "procession" in sys.modules else []
    for way in WAYS:
        found = measure("multiprocessing", way, alias)
        print(way, *found, sep="\n")
    if alias:
        # for a program that imports us, the one that knows of multiprocessing sees the main process only
        imported = measure("procession", "patch", [])
        assert imported == found, f"with `import procession`: {imported}"


if __name__ == "__main__":
    import multiprocessing.process  # noqa: F401 (this job starts its programs by subprocess)

    main()
