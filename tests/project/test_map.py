"""The map, ARCHITECTURE.md, names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# As the map says above its table.
PLACES = {"python:": "crates/procession-python/src/", "rust:": "crates/procession/src/"}


def path_of(name: str) -> Path | None:
    """The file or folder that a name on the map stands for; None if it is no path."""
    for mark, folder in PLACES.items():
        if name.startswith(mark):
            return ROOT / folder / name.removeprefix(mark)
    if not re.fullmatch(r"[\w./-]*\w[\w./-]*(?:\.rs|\.py|\.toml|/)", name):
        return None
    if name.split("/")[0] in {"benchmarks", "crates", "docs", "examples", "fuzz", "locks", "tests", "tools"}:
        return ROOT / name
    if name.endswith(".toml"):
        return ROOT / name
    if name.endswith(".py") or name.startswith("_"):
        return ROOT / "python/procession" / name
    return ROOT / "crates/procession-core/src" / name


def names() -> list[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    # What stands in brackets behind a folder lies in that folder.
    text = re.sub(r"(`[^`\n]+/`) \(([^)\n]+)\)", r"\1", text)
    return sorted(set(re.findall(r"`([^`\n]+)`", text)))


@pytest.mark.parametrize("name", [name for name in names() if path_of(name) and "NAME" not in name])
def test_a_path_on_the_map_exists(name):
    path = path_of(name)
    assert path and path.exists(), f"ARCHITECTURE.md names {name}: there is no {path}"


def test_the_map_names_paths():
    assert sum(1 for name in names() if path_of(name)) > 60
