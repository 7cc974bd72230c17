"""What is in a source distribution: all that a build from it needs."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("cargo") is None, reason="a source distribution is made by cargo")
def test_the_flags_of_the_build_are_in_the_source_distribution(tmp_path: Path):
    maturin = ROOT / ".venv" / "bin" / "maturin"
    command = [maturin if maturin.exists() else "maturin", "sdist", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        (flags,) = (name for name in files.getnames() if name.endswith("/.cargo/config.toml"))
        member = files.extractfile(flags)
        assert member is not None
        assert b"pyo3_disable_reference_pool" in member.read()
