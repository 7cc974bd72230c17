"""joblib's own tests of `Parallel`, with "procession" among the backends of processes.

A copy of the test file is run in which the lists of backends have one more name. Programs that the tests start, and
workers of other backends, know the backend by a `sitecustomize` module. Tests that fail must be in the list below, with
the reason; a test in the list that passes is an error too. Run by `make clients`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib.test

SHARED = "expects a numpy.memmap: big arrays lie in shared memory here, and not in files"
TOO_DEEP = "expects RecursionError: it is too deep to be pickled, as joblib knows of its own backend"
EXPECTED = {
    "test_error_capture[procession]": "looks for workers in an attribute of joblib's own backends",
    "test_auto_memmap_on_arrays_from_generator[procession]": SHARED,
    "test_memmapping_leaks[procession]": SHARED,
    "test_thread_bomb_mitigation[procession-parallel_config]": TOO_DEEP,
    "test_thread_bomb_mitigation[procession-parallel_backend]": TOO_DEEP,
}
# These may also pass: how deep the recursion is depends on the machine.
SOMETIMES = {test for test, why in EXPECTED.items() if why == TOO_DEEP}
# Lists of backends in the test file. Each must be there.
LISTS = (
    '["multiprocessing", "loky"]',
    '["loky", "threading"]',
    '["loky", "multiprocessing", "threading"]',
    '["threading", "loky", "multiprocessing", "back_compat_backend"]',
    '[None, "loky"]',
)
REGISTERED = "import procession.joblib\nprocession.joblib.register()\n"
# the number of passed tests below which something is wrong with this program
LEAST = 120


def prepare(folder: Path) -> None:
    text = (Path(joblib.test.__file__).parent / "test_parallel.py").read_text()
    for found in LISTS:
        assert found in text, f"joblib's tests have no list {found} any more"
        text = text.replace(found, f'{found[:-1]}, "procession"]')
    (folder / "test_parallel.py").write_text(text.replace("from ._openmp", "from joblib.test._openmp"))
    (folder / "sitecustomize.py").write_text(REGISTERED)
    (folder / "pytest.ini").write_text("[pytest]\n")


def run(folder: Path, *options: str) -> tuple[int, set[str]]:
    """Returns the number of passed tests and the names of those that failed."""
    command = [sys.executable, "-m", "pytest", "-k", "procession", "-q", "-rfE", "--timeout", "120", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    passed = re.search(r"(\d+) passed", done.stdout)
    if passed is None and done.returncode not in (0, 1):
        raise SystemExit(f"joblib's tests did not run:\n{done.stdout}{done.stderr}")
    failed = re.findall(r"^(?:FAILED|ERROR) test_parallel\.py::(.*?\])(?: - .*)?$", done.stdout, re.MULTILINE)
    return int(passed[1]) if passed else 0, set(failed)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        passed, failed = run(folder)
        if failed - EXPECTED.keys():
            # Some tests give a program five seconds, and the machine may have been busy.
            print("joblib's tests: ONCE MORE, what failed", flush=True)
            _, again = run(folder, "--last-failed")
            passed += len(failed - again)
            failed = again
    for test in sorted(failed & EXPECTED.keys()):
        print(f"joblib's tests: {test} fails: {EXPECTED[test]}")
    for test in sorted(failed - EXPECTED.keys()):
        print(f"joblib's tests: {test} FAILED")
    gone = EXPECTED.keys() - failed - SOMETIMES
    for test in sorted(gone):
        print(f"joblib's tests: {test} passes: take it off the list")
    print(f"joblib's tests of Parallel: {passed} passed, {len(failed)} failed", flush=True)
    return int(bool(failed - EXPECTED.keys() or gone) or passed < LEAST)


if __name__ == "__main__":
    sys.exit(main())
