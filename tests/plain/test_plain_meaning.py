"""Our tests of pools that are about what calls mean, once more without the extension."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from programs import run

TESTS = Path(__file__).resolve().parent.parent

# Files of tests, with the words of those names that are about the memory of a family, or about objects as arguments of
# tasks, which multiprocessing hands over at a start only.
FILES = {
    "pool/test_pool.py": "too_long_for_its_waiter or queues_and_locks_are_arguments",
    "pool/test_pool_on_error.py": "",
    "pool/test_pool_retries.py": "",
    "pool/test_pool_imap.py": "",
    "pool/test_futures.py": "",
    "pool/test_pool_workers.py": "",
    "pool/test_pool_resize.py": "",
    "pool/test_pool_priority.py": "",
    "pool/test_pool_progress.py": "",
    "pool/test_pool_soft_timeout.py": "",
    "pool/test_pool_voices.py": "threads_and_descriptors_end",
    "pool/test_pool_ending.py": "",
    "pool/test_pool_odd_options.py": "",
    "pool/test_thread_pool.py": "",
}

SUITE = """
import os, sys, pytest
os.environ.pop("PYTEST_XDIST_WORKER", None)
sys.exit(pytest.main([*sys.argv[1:], "-q", "-p", "no:cacheprovider"]))
"""


# What differs between the start methods is in `test_plain_pool.py`. Here each file has one of them; the big ones that
# which starts fastest.
FORKED = ("pool/test_pool.py", "pool/test_pool_on_error.py", "pool/test_pool_imap.py", "pool/test_pool_progress.py")
RUNS = [(file, "fork" if file in FORKED else ("spawn", "forkserver")[number % 2]) for number, file in enumerate(FILES)]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "method"), RUNS)
def test_calls_mean_the_same(file, method):
    without = ["-k", f"not ({FILES[file]})"] if FILES[file] else []
    asked = ["--start-method", method, "--rootdir", TESTS.parent, *without]
    # a folder with a short name: the address of a fork server is in it
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        own = {"PYTEST_ADDOPTS": "", "TMPDIR": folder, "PROCESSION_FALLBACK": "1"}
        outcome = run("-c", SUITE, TESTS / file, *asked, cwd=TESTS.parent, **own)
    assert outcome.code == 0, f"{outcome.out[-5000:]}\n{outcome.err[-2000:]}"
    assert " passed" in outcome.out
