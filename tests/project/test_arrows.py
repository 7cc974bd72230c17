"""The check that no part of a Rust crate names a part above it: `tools/check_arrows.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_arrows.py"
FLOORS = ["low", "left right", "files more", "high"]


@pytest.fixture
def arrows() -> ModuleType:
    if not TOOL.exists():
        pytest.skip("the tools are not part of an installed package")
    spec = importlib.util.spec_from_file_location("check_arrows", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrong(arrows: ModuleType, folder: Path, **changed: str) -> list[str]:
    """What is found in a crate with a file for each part, of which some have this text."""
    files = {
        "lib.rs": "pub use high::top::Top;",
        "low/mod.rs": "pub mod base;",
        "low/base.rs": "",
        "left/mod.rs": "",
        "right/mod.rs": "",
        "files.rs": "",
        "more.rs": "",
        "high/mod.rs": "pub mod top; pub use top::Top;",
        "high/top.rs": "use crate::left;\nuse super::super::low::base;",
    }
    files |= {name.replace("__", "/") + ".rs": text for name, text in changed.items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    found: list[str] = arrows.upward(folder, FLOORS)
    return [line.removeprefix(f"{folder}/") for line in found]


def test_arrows_that_point_downwards_are_right(arrows: ModuleType, tmp_path: Path) -> None:
    assert wrong(arrows, tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "use crate::high::top::Top;",
        "fn f() { crate::high::top::g() }",
        "use crate::{\n    left::{self},\n};",
        "use super::super::high::Top as Other;",
        "use crate::Top;",
    ],
)
def test_an_arrow_upwards_is_found_however_it_is_written(arrows: ModuleType, tmp_path: Path, text: str) -> None:
    (found,) = wrong(arrows, tmp_path, low__base=text)
    assert "higher floor" in found and found.startswith("low/base.rs:")


def test_two_folders_of_one_floor_do_not_name_each_other(arrows: ModuleType, tmp_path: Path) -> None:
    (found,) = wrong(arrows, tmp_path, left__mod="use crate::right;")
    assert "same floor" in found


def test_two_files_of_one_floor_and_one_folder_do(arrows: ModuleType, tmp_path: Path) -> None:
    assert wrong(arrows, tmp_path, files="use crate::more;", more="use crate::files;") == []


def test_what_comments_and_strings_name_does_not_count(arrows: ModuleType, tmp_path: Path) -> None:
    text = '// use crate::high;\n/// [`crate::high::Top`]\nconst A: &str = "crate::high";'
    assert wrong(arrows, tmp_path, low__base=text) == []


def test_a_part_on_no_floor_is_found(arrows: ModuleType, tmp_path: Path) -> None:
    (found,) = wrong(arrows, tmp_path, new="")
    assert "new, which is on no floor" in found
