"""Named segments with the standard library's multiprocessing on the other side, on every CPython that is found."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deadlines import PATIENCE
from procession._memory import segments
from procession.shared_memory import ShareableList, SharedMemory

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import other_pythons

ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "é", b""]

pytestmark = pytest.mark.skipif(
    not os.access(segments.FOLDER, os.W_OK), reason=f"needs {segments.FOLDER}, which cannot be written to here"
)


@functools.cache
def find(version: str) -> str | None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if version == here else other_pythons.find(version)


@pytest.fixture(params=["3.11", "3.12", "3.13"])
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter whose multiprocessing is the standard library's."""
    found = find(request.param)
    if found is None:
        pytest.skip(f"there is no Python {request.param} here")
    return found


def tell(python: str, text: str, *arguments: str) -> str:
    """What that Python prints, with its SharedMemory and ShareableList. Its tracker does not unlink what is ours."""
    begin = (
        "import sys; from multiprocessing import resource_tracker\n"
        "from multiprocessing.shared_memory import SharedMemory, ShareableList\n"
        "forget = lambda s: resource_tracker.unregister(s._name, 'shared_memory')\n"
    )
    done = subprocess.run(
        [python, "-c", begin + text, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_standard_library_reads_and_writes_our_segment(python):
    ours = SharedMemory(create=True, size=100)
    ours.buf[:4] = b"ours"
    text = "s = SharedMemory(sys.argv[1]); print(bytes(s.buf[:4]), s.size); s.buf[:6] = b'theirs'; s.close(); forget(s)"
    assert tell(python, text, ours.name) == "b'ours' 100"
    assert bytes(ours.buf[:6]) == b"theirs"
    ours.unlink()


def test_we_read_write_and_remove_a_segment_of_the_standard_library(python):
    text = "s = SharedMemory(create=True, size=100); s.buf[:6] = b'theirs'; print(s.name); s.close(); forget(s)"
    theirs = SharedMemory(tell(python, text))
    assert (bytes(theirs.buf[:6]), theirs.size) == (b"theirs", 100)
    theirs.buf[:4] = b"ours"
    text = "s = SharedMemory(sys.argv[1]); print(bytes(s.buf[:6])); s.close(); forget(s)"
    assert tell(python, text, theirs.name) == "b'oursrs'"
    theirs.unlink()
    assert not (Path(segments.FOLDER) / theirs.name).exists()


def test_the_standard_library_reads_and_changes_our_list(python):
    ours = ShareableList([*ITEMS, b"zeros\0"])
    text = (
        "l = ShareableList(name=sys.argv[1]); print(list(l)); l[0] = 'other'; l[3] = None; l[9] = b'longer!';"
        "l[8] = b'12345678';"
        "l.shm.close(); forget(l.shm)"
    )
    assert tell(python, text, ours.shm.name) == repr([*ITEMS, b"zeros"])
    assert list(ours) == ["other", *ITEMS[1:3], None, *ITEMS[4:8], b"12345678", b"longer!"]
    ours.shm.unlink()


def test_we_read_and_change_a_list_of_the_standard_library(python):
    text = "l = ShareableList(eval(sys.argv[1])); print(l.shm.name); l.shm.close(); forget(l.shm)"
    theirs = ShareableList(name=tell(python, text, repr(ITEMS)))
    assert list(theirs) == ITEMS
    ours = ShareableList(ITEMS)
    ours.shm.unlink()
    assert theirs.format == ours.format
    theirs[0], theirs[1], theirs[4] = "longer", b"bytes\0", 7
    assert theirs[1] == b"bytes\0"
    text = "l = ShareableList(name=sys.argv[1]); print(list(l)); l.shm.close(); forget(l.shm)"
    assert tell(python, text, theirs.shm.name) == repr(["longer", b"bytes", *ITEMS[2:4], 7, *ITEMS[5:]])
    theirs.shm.unlink()
