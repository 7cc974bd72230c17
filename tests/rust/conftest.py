"""The Rust program with which these tests share objects: crates/procession/tests/peer."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import procession
from deadlines import PATIENCE
from procession.rust import Program

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def peer() -> str:
    """The Rust program, crates/procession/tests/peer."""
    if shutil.which("cargo") is None:
        pytest.skip("there is no cargo to build the Rust side with")
    build = ["cargo", "build", "--quiet", "--package", "procession", "--example", "peer"]
    subprocess.run(build, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    return str(ROOT / "target" / "debug" / "examples" / "peer")


@contextlib.contextmanager
def serving(peer: str, part: str) -> Iterator[tuple[Any, Any]]:
    """Runs a part of the Rust program that answers each item of a queue in another one, until it gets None."""
    there, back = procession.Queue(), procession.Queue()
    program = Program([peer, part], [there, back], daemon=True)
    program.start()
    yield there, back
    there.put(None)
    program.join(PATIENCE)
    assert program.exitcode == 0


@pytest.fixture
def echo(peer: str) -> Iterator[tuple[Any, Any]]:
    with serving(peer, "echo") as queues:
        yield queues


@pytest.fixture
def describe(peer: str) -> Iterator[tuple[Any, Any]]:
    with serving(peer, "describe") as queues:
        yield queues
