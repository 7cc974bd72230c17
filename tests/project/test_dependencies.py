"""The check of dependencies (`tools/check_dependencies.py`): licences, locks, and what the tables describe."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def dependencies(tool) -> ModuleType:
    return tool("check_dependencies")


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("GPL-3.0 OR MIT", True),
        ("MIT/GPL-3.0", True),
        ("GPL-3.0 AND MIT", False),
        ("(MIT OR GPL-3.0) AND Zlib", True),
        ("MIT AND (GPL-3.0 OR LGPL-3.0)", False),
        ("GPL-3.0 OR MIT AND Zlib", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH other-exception", False),
        ("Apache-2.0 WITH other-exception OR MIT", True),
        ("none", False),
    ],
)
def test_a_licence_is_allowed_as_its_expression_says(dependencies, expression, is_allowed):
    assert dependencies.allowed(expression, {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}) is is_allowed


def test_the_first_column_of_the_tables_names_what_is_described(dependencies):
    text = "| crate | why |\n| --- | --- |\n| `a`, `b_c` | needs `d` |\n| word | `e` |\n"
    assert dependencies.described(text) == {"a", "b-c"}


def lock(folder: Path, text: str) -> None:
    (folder / "locks").mkdir()
    (folder / "requirements-dev.txt").write_text("# tools\nOne==1.0\ntwo[extra]==2.0\n")
    (folder / "locks" / "dev.txt").write_text(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one==1.0 \\\n    --hash=sha256:aa\ntwo==2.0 ; x == 'y' \\\n    --hash=sha256:bb\n", []),
        ("one==1.0 \\\n    --hash=sha256:aa\ntwo==2.1 \\\n    --hash=sha256:bb\n", ["has not two==2.0"]),
        ("one==1.0\ntwo==2.0 \\\n    --hash=sha256:bb\n", ["one has no hash"]),
    ],
    ids=["right", "another version", "no hash"],
)
def test_a_lock_has_the_versions_that_are_asked_for_and_their_hashes(dependencies, tmp_path, text, said):
    lock(tmp_path, text)
    found = list(dependencies.check_locks(tmp_path))
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found, strict=True)), found


def test_a_lock_that_is_missing_is_found(dependencies, tmp_path):
    (tmp_path / "requirements-new.txt").write_text("one==1.0\n")
    assert list(dependencies.check_locks(tmp_path)) == ["locks/new.txt is missing: make locks"]
