"""green runs tests in a pool with workers of its own, each of which calls a finalizer at its end."""

import contextlib
import io
import sys
from pathlib import Path

import loaded  # noqa: F401

TESTS = """
import unittest

class Tests{n}(unittest.TestCase):
    def test_good(self):
        pass

    def test_bad(self):
        self.assertEqual({n}, 0)
"""

FINALIZER = """
import os

def finish():
    open(f"finished-{os.getpid()}", "w").close()
"""


def main():
    from green.cmdline import main as green

    sys.path.insert(0, "")
    Path("finalizer.py").write_text(FINALIZER)
    for n in range(4):
        Path(f"test_{n}.py").write_text(TESTS.format(n=n))
    sys.argv = ["green", "-s", "2", "-z", "finalizer.finish", "-q", "."]
    with contextlib.redirect_stdout(io.StringIO()):  # it says how long it took
        code = green(sys.argv[1:])
    print(code, len(list(Path().glob("finished-*"))))


if __name__ == "__main__":
    main()
