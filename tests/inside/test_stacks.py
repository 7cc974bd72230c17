"""`procession stacks` shows the frames that py-spy reads, with what each thread waits for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import procession as mp
from deadlines import PATIENCE
from programs import write
from scenes import scene

# A py-spy that reads nothing: it tells of a stack that it was given.
PROGRAM = """\
    #!{python}
    import json, sys
    pid = int(sys.argv[sys.argv.index("--pid") + 1])
    assert sys.argv[1:4] == ["dump", "--nonblocking", "--json"]
    frames = [
        ("get", "/x/procession/queues.py", 1), ("_wait", "/x/procession/_queue/compat.py", 2),
        ("consume", "/home/scenes/producers_gone.py", 11), ("_bootstrap", "/x/procession/process.py", 3),
        ("main", "/home/scenes/producers_gone.py", 99),
    ]
    frames = [dict(name=name, filename=file, line=line, module=None) for name, file, line in frames]
    stack = dict(pid=pid, thread_id=1, thread_name="MainThread", os_thread_id=pid, active=False, frames=frames)
    print(json.dumps([stack]))
"""


def stacks(pid, path, *options):
    return subprocess.run(
        [sys.executable, "-m", "procession.inspect", "stacks", str(pid), *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PATH": path},
        check=True,
    ).stdout


def test_frames_are_shown_without_our_own_and_without_those_before_the_fork(tmp_path):
    file = write(tmp_path / "py-spy", PROGRAM.format(python=sys.executable))
    file.chmod(0o755)
    with scene("producers_gone", "fork") as program:
        program.finding("lost")
        output = stacks(program.pid, str(tmp_path))
        consumer = program.member("consumer0")["pid"]
        assert f"consumer0 {consumer}  MainThread  waits for a message of Queue" in output
        assert "(procession)\n    consume " in output and "producers_gone.py:11" in output
        assert "producers_gone.py:99" not in output
        found = json.loads(stacks(program.pid, str(tmp_path), "--json"))
        assert {one["name"] for one in found["stacks"]} == {"MainProcess", "consumer0", "consumer1"}


def test_without_py_spy_the_screen_says_what_is_missing(tmp_path):
    queue = mp.Queue()
    output = stacks(os.getpid(), str(tmp_path))
    assert "not seen: the program py-spy is not installed" in output
    del queue
