"""A command that a program runs in its own process leaves the program's signals alone."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from deadlines import PATIENCE

PROGRAM = """
import os, signal, sys, threading
import procession as mp
from procession import inspect

def caught():
    with open("/proc/self/status") as status:
        return [line for line in status if line.startswith(("SigCgt", "SigIgn", "SigBlk"))]

queue = mp.Queue()  # the program is a family now
before = caught()
pid = str(os.getpid())
inspect.main(["trace", pid, "--seconds", "0.1", "-o", sys.argv[1]])
inspect.main(["progress", pid, "--once"])
assert caught() == before
print("unchanged", flush=True)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    inspect.main(["trace", pid, "--seconds", "600", "-o", sys.argv[1] + "2"])
except KeyboardInterrupt:
    print("interrupted", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("not reached")
"""


@pytest.mark.start_methods("fork")
def test_the_signals_of_a_program_stay_its_own(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "trace")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    lines = done.stdout.splitlines()
    assert "unchanged" in lines and lines[-1] == "interrupted", done
    assert done.returncode == -signal.SIGTERM, done
