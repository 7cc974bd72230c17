"""A packaged crate has all files that its sources, tests and examples include."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

CRATES = sorted((Path(__file__).resolve().parents[2] / "crates").iterdir())
INCLUDED = re.compile(r'include(?:_str|_bytes)?!\(\s*"([^"]+)"|#\[path = "([^"]+)"\]')


@pytest.mark.parametrize("crate", CRATES, ids=lambda crate: crate.name)
def test_a_crate_includes_no_file_outside_of_its_folder(crate: Path) -> None:
    for file in crate.rglob("*.rs"):
        for names in INCLUDED.findall(file.read_text()):
            included = Path(os.path.normpath(file.parent / "".join(names)))
            assert included.is_relative_to(crate), f"{file} includes {included}"
            assert included.exists(), f"{file} includes {included}"
