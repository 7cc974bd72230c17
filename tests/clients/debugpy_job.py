"""A debugger attaches to every child and stops it at a breakpoint, however it was started."""

import os
import subprocess
import sys
import tempfile
import threading

import debug_adapter
import loaded  # noqa: F401
from debugged import BREAKPOINTS
from debugged import __file__ as DEBUGGED

LONGEST = 60  # seconds that a program may take


def debug(package, option):
    """The places where the children of a program stopped, and what it printed."""
    port = debug_adapter.free_port()
    command = [sys.executable, *option, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--wait-for-client"]
    command += ["--configure-subProcess", "true", DEBUGGED, package]
    environment = {**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with tempfile.TemporaryFile("w+") as out:
        program = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True)
        stops = []
        client = debug_adapter.Session(("127.0.0.1", port), {DEBUGGED: BREAKPOINTS}, stops.append)
        threading.Thread(target=client.run, daemon=True).start()
        try:
            program.wait(LONGEST)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        out.seek(0)
        return sorted(stops), [line for line in out.read().splitlines() if line.startswith(("fork", "spawn"))]


def main():
    # with the alias if this process has it, and that is so under the second run of this job
    alias = ["-m", "procession"] if "procession" in sys.modules else []
    found = debug("multiprocessing", alias)
    print(*found, sep="\n")
    if alias:
        imported = debug("procession", [])
        assert imported == found, f"with `import procession`: {imported}"


if __name__ == "__main__":
    import multiprocessing.process  # noqa: F401 (this job starts its programs by subprocess)

    main()
