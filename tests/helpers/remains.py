"""What a run of the tests must not leave behind: processes, named segments, sockets."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import operator
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from deadlines import until

MARK = "TESTS_OF_PROCESSION"  # in the environment of every process that a run of the tests starts
SEGMENTS = Path("/dev/shm")
# what ends the helpers of a package, by module
STAYING = {
    "resource_sharer": "stop",
    "forkserver": "_forkserver._stop",
    "resource_tracker": "_resource_tracker._stop",
}


class Run:
    """A run of the tests: has a folder of its own for temporary files, and knows its processes by a mark."""

    def __init__(self) -> None:
        # pytest's own folders stay where they are looked for
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self._began = time.time()
        self._earlier = names_of_segments()
        self.folder = Path(tempfile.mkdtemp(prefix="tests-"))
        self.folder.chmod(0o1777)  # some tests become another user
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)
        os.environ[MARK] = str(self.folder)
        self._pid = os.getpid()
        atexit.register(self._remove_folder)  # first of all, and so called when the packages have done their own

    def _remove_folder(self) -> None:
        if os.getpid() == self._pid:
            shutil.rmtree(self.folder, ignore_errors=True)

    def remains(self) -> dict[str, list[str]]:
        """What is left of the run, by kind; waits for what is just about to go."""
        for package in ("procession", "multiprocessing"):  # these stay as long as the process that started them
            for module, stop in STAYING.items():
                if f"{package}.{module}" in sys.modules:
                    operator.attrgetter(stop)(sys.modules[f"{package}.{module}"])()
        left: dict[str, list[str]] = {}

        def nothing_is_left() -> bool:
            nonlocal left
            kinds = {"processes": self._processes(), "segments": self._segments(), "sockets": self._sockets()}
            left = {kind: things for kind, things in kinds.items() if things}
            return not left

        with contextlib.suppress(AssertionError):
            until(nothing_is_left)
        return left

    def _processes(self) -> list[str]:
        """The processes that have the mark, without this one and those that it belongs to."""
        mark = f"{MARK}={self.folder}".encode()
        mine = ancestors(os.getpid())
        found = []
        for entry in os.listdir("/proc"):
            try:
                if not entry.isdigit() or int(entry) in mine:
                    continue
                if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                    line = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{entry} {line[:200]}")
            except OSError:  # it has ended, or is another user's
                continue
        return found

    def _segments(self) -> list[str]:
        """The named segments that were made since the run began and that nobody uses. Other programs make some, too."""
        return [name for name in sorted(names_of_segments() - self._earlier) if self._forgotten(SEGMENTS / name)]

    def _forgotten(self, path: Path) -> bool:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.fstat(fd).st_mtime < self._began:
                return False
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # our users of a segment hold a lock on it
        except OSError:
            return False
        finally:
            os.close(fd)
        return not is_mapped(path)

    def _sockets(self) -> list[str]:
        """The sockets that somebody listens at in the run's folder."""
        return [
            line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if str(self.folder) in line
        ]


def names_of_segments() -> set[str]:
    """The named segments of this machine, without semaphores."""
    return {name for name in os.listdir(SEGMENTS) if not name.startswith("sem.")} if SEGMENTS.is_dir() else set()


def ancestors(pid: int) -> set[int]:
    """A process, its parent, and so on."""
    found = set()
    while pid > 0:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def is_mapped(path: Path) -> bool:
    """Whether a process has this file mapped. Users that hold no lock have it so."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(path) in maps.read_text():
                return True
        except OSError:
            continue
    return False
