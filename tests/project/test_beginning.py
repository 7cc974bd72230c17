"""The tests themselves: their start method can be chosen, deadlines fit the machine, nothing of them is left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import deadlines
from deadlines import PATIENCE, ended, running
from programs import run, write

TESTS = Path(__file__).resolve().parent.parent


def small_suite(tmp_path, source, **environment):
    """Runs a file of tests as a suite of its own, with our conftest.py and our options."""
    (tmp_path / "conftest.py").symlink_to(TESTS / "conftest.py")
    file = write(tmp_path / "test_small.py", source)
    # a run of its own; and it is not to be counted as a worker of ours
    own = {"PYTEST_XDIST_WORKER": "", "PYTEST_ADDOPTS": "-p no:cacheprovider", "TMPDIR": str(tmp_path), **environment}
    return run("-c", SUITE, file, "-c", TESTS.parent / "pyproject.toml", "--rootdir", tmp_path, cwd=tmp_path, **own)


SUITE = """
import os, sys, pytest
if not os.environ["PYTEST_XDIST_WORKER"]:
    del os.environ["PYTEST_XDIST_WORKER"]
sys.exit(pytest.main(sys.argv[1:] + ["-q"]))
"""


def use_pytest(log):
    log.put("_pytest" in sys.modules)
    with pytest.raises(KeyError):
        raise KeyError
    log.put("_pytest" in sys.modules)


@pytest.mark.start_methods("spawn", "forkserver")
def test_a_child_imports_its_test_without_pytest_and_gets_pytest_for_what_it_calls(context):
    log = context.Queue()
    with running(context, (use_pytest, log)) as [child]:
        assert [log.get(timeout=PATIENCE) for _ in range(2)] == [False, True]
        assert ended(child) == [0]


def test_the_default_start_method_of_tests_and_of_their_programs_can_be_chosen(start_method, tmp_path):
    source = """
    import multiprocessing
    import subprocess
    import sys

    import procession as mp

    ASK = "import {} as mp; print(mp.get_all_start_methods()[0], mp.get_start_method(True), mp.get_start_method())"

    def tell(queue):
        queue.put(mp.get_start_method())

    def test():
        assert mp.get_start_method() == multiprocessing.get_start_method() == METHOD
        for package in ("procession", "multiprocessing"):
            out = subprocess.check_output([sys.executable, "-c", ASK.format(package)], text=True)
            assert out == f"{METHOD} None {METHOD}\\n"
        queue = mp.SimpleQueue()
        process = mp.Process(target=tell, args=(queue,))
        process.start()
        assert queue.get() == METHOD
        process.join()
    """
    outcome = small_suite(tmp_path, source.replace("METHOD", repr(start_method)), PYTHON_DEFAULT_START=start_method)
    assert outcome.code == 0, outcome
    assert "1 passed" in outcome.out


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "with workers"])
def test_a_run_that_leaves_nothing_behind_is_fine_and_its_folder_goes(tmp_path, workers):
    source = """
    import procession as mp

    def test():
        with mp.Pool(2) as pool, mp.Manager() as manager:
            segment = mp.shared_memory.SharedMemory(create=True, size=10)
            assert pool.map(abs, manager.list([-1])) == [1]
            segment.unlink()
            segment.close()
    """
    outcome = small_suite(tmp_path, source, PYTEST_ADDOPTS=f"-p no:cacheprovider {' '.join(workers)}")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert not list(tmp_path.glob("tests-*"))


LEFT = {
    "processes": """
        subprocess.Popen(["sh", "-c", "sleep 120 & echo $! > left.pid"]).wait()
    """,
    "segments": """
        name = f"left_{os.getpid()}"
        pathlib.Path("left.segment").write_text(name)
        pathlib.Path("/dev/shm", name).write_text("left")
    """,
    "sockets": """
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(tempfile.gettempdir() + "/s")  # an address has at most 107 bytes
        listener.listen()
        sys.modules["left"] = listener
    """,
}


@pytest.mark.parametrize("what", LEFT)
def test_a_run_fails_that_leaves_something_behind(what, tmp_path):
    source = f"""
    import os, pathlib, socket, subprocess, sys, tempfile

    def test():
{LEFT[what]}
    """
    try:
        outcome = small_suite(tmp_path, source, TESTS_PATIENCE="1")
    finally:
        if (tmp_path / "left.pid").exists():
            os.kill(int((tmp_path / "left.pid").read_text()), 9)
        if (tmp_path / "left.segment").exists():
            os.unlink("/dev/shm/" + (tmp_path / "left.segment").read_text())
    assert outcome.code == 1
    assert "1 passed" in outcome.out
    lines = outcome.err.strip().splitlines()
    # not all of them: a segment says nothing of who made it, and other tests leave one for a while
    assert any(line.startswith(f"LEFT BEHIND: {what}: ") for line in lines), lines


def test_deadlines_are_longer_where_programs_start_slowly(monkeypatch):
    monkeypatch.delenv("TESTS_SLOWNESS")
    monkeypatch.setattr(deadlines, "PATIENCE", deadlines.PATIENCE)
    monkeypatch.setattr(deadlines, "_NOMINAL", 1e-9)
    deadlines.measure()
    assert deadlines.PATIENCE == 60
    # once for a run: workers and programs go by the environment
    monkeypatch.setattr(deadlines, "_NOMINAL", 1e9)
    deadlines.measure()
    assert deadlines.PATIENCE == 60
    ask = "import deadlines; print(deadlines.PATIENCE, deadlines.slowness())"
    assert run("-c", ask, cwd=TESTS / "helpers").well() == "60.0 3.0\n"
    # those that wait take the present one
    monkeypatch.setattr(deadlines, "PATIENCE", 0.01)
    with pytest.raises(AssertionError, match=r"not true within 0\.01 s"):
        deadlines.until(lambda: False)
