"""The programs in examples/ work, and docs/examples.md shows each of them with what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deadlines import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "examples.md"
SHOWN = re.compile(r'^--8<-- "examples/(\w+\.py)"\n```\n\n```text\n(.*?)^```$', re.MULTILINE | re.DOTALL)
# Longer programs, whose output depends on the machine. They have tests of their own (here, `test_cluster_demo.py`).
LONG = {"token_census.py", "cluster_census.py"}
NEEDS = {"dataframe_groups.py": "pandas", "heat_grid.py": "numpy"}

outputs: dict[str, str] = dict(SHOWN.findall(PAGE.read_text()))


def test_every_example_is_on_the_page():
    programs = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert set(outputs) == programs - LONG
    for name in programs:
        assert f"`{name}`" in PAGE.read_text()


@pytest.mark.parametrize("name", sorted(outputs))
def test_an_example_prints_what_the_page_says(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == outputs[name]
    assert os.listdir(tmp_path) == []  # it removes what it has made


def test_the_census_of_the_library_is_right_although_a_worker_is_killed(tmp_path):
    census = ROOT / "examples" / "token_census.py"
    done = subprocess.run(
        [sys.executable, str(census), "--limit", "60", "--kill-one"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed worker" in done.stdout and "the same counts" in done.stdout
