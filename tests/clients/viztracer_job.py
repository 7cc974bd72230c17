"""A tracer records what the children do, however they were started."""

import json
import subprocess
import sys
from collections import Counter

import loaded  # noqa: F401
from watched import __file__ as WATCHED

LONGEST = 60  # seconds that a program may take


def trace(package, option):
    """What the program printed, and how often which of its functions was called outside its main process."""
    command = [sys.executable, *option, "-m", "viztracer", "--quiet", "-o", "trace.json", WATCHED, package]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LONGEST)
    with open("trace.json") as file:
        events = json.load(file)["traceEvents"]
    main = next(event["pid"] for event in events if event["name"].startswith(f"main ({WATCHED}"))
    calls = Counter(event["name"].split()[0] for event in events if event["pid"] != main)
    return done.stdout, {name: calls[name] for name in ("by_process", "by_pool")}


def main():
    # with the alias if this process has it, and that is so under the second run of this job
    alias = ["-m", "procession"] if "procession" in sys.modules else []
    found = trace("multiprocessing", alias)
    print(*found, sep="\n")
    if alias:
        imported = trace("procession", [])
        assert imported == found, f"with `import procession`: {imported}"


if __name__ == "__main__":
    import multiprocessing.process  # noqa: F401 (this job starts its programs by subprocess)

    main()
