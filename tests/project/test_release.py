"""`make release`: which trees are ready for it, and that it tags and pushes nothing (`tools/release.py`)."""

from __future__ import annotations

import datetime
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
TODAY = datetime.date(2030, 5, 17)
OURS = ["procession", "procession-core", "procession-inspect", "procession-python"]


@pytest.fixture
def release(tool) -> ModuleType:
    return tool("release")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project that is ready for the release of 1.2.3, with a repository behind it that a push would reach."""
    folder = tmp_path / "tree"
    (folder / "benchmarks" / "rust").mkdir(parents=True)
    (folder / "Cargo.toml").write_text(
        '[workspace.package]\nversion = "1.2.3"\n[workspace.dependencies]\nprocession-core = { version = "1.2.3" }\n'
    )
    lock = "".join(f'[[package]]\nname = "{name}"\nversion = "1.2.3"\n' for name in OURS)
    (folder / "Cargo.lock").write_text(lock)
    (folder / "benchmarks" / "rust" / "Cargo.lock").write_text(lock)
    (folder / "CHANGELOG.md").write_text(
        "# Changelog\n\n## 1.2.3 - 2030-05-17\n\n- Something.\n\n### Removed\n\n- A name.\n"
        "\n## 1.2.2 - 2030-01-01\n\n- Old.\n"
    )
    git(tmp_path, "init", "--quiet", "--bare", "remote")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "tree")
    git(folder, "config", "user.name", "A Maintainer")
    git(folder, "config", "user.email", "maintainer@example.org")
    git(folder, "remote", "add", "origin", "../remote")
    commit(folder)
    return folder


def change(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    commit(folder)


def test_a_tree_that_is_ready_has_no_problems(release, tree):
    assert release.problems(tree, TODAY) == []


def test_a_file_that_is_not_committed_is_a_problem(release, tree):
    (tree / "new").write_text("")
    assert release.problems(tree, TODAY) == ["1 files are not committed, such as new"]


def test_a_section_without_a_date_is_a_problem(release, tree):
    change(tree, "CHANGELOG.md", "## 1.2.3 - 2030-05-17", "## Unreleased")
    assert release.problems(tree, TODAY)[0] == "CHANGELOG.md begins with `## Unreleased`, not with `## 1.2.3 - DATE`"


@pytest.mark.parametrize(
    ("date", "said"), [("2030-05-18", "is in the future"), ("2030-02-31", "is no date")], ids=["future", "none"]
)
def test_a_date_that_cannot_be_is_a_problem(release, tree, date, said):
    change(tree, "CHANGELOG.md", "2030-05-17", date)
    assert release.problems(tree, TODAY) == [f"CHANGELOG.md: {date} {said}"]


def test_a_section_that_says_nothing_is_a_problem(release, tree):
    change(tree, "CHANGELOG.md", "\n- Something.\n\n### Removed\n\n- A name.\n", "")
    assert release.problems(tree, TODAY) == ["CHANGELOG.md says nothing about 1.2.3"]


@pytest.mark.parametrize("file", ["Cargo.lock", "benchmarks/rust/Cargo.lock"])
def test_another_version_of_a_crate_is_a_problem(release, tree, file):
    change(tree, file, '"procession-core"\nversion = "1.2.3"', '"procession-core"\nversion = "1.2.2"')
    assert release.problems(tree, TODAY) == [f"{file}: the version of procession-core is 1.2.2, not 1.2.3"]


def test_a_version_that_is_not_that_of_the_changes_is_a_problem(release, tree):
    change(tree, "CHANGELOG.md", "## 1.2.3 -", "## 1.3.0 -")
    assert "CHANGELOG.md begins with 1.3.0, Cargo.toml has 1.2.3" in release.problems(tree, TODAY)


@pytest.mark.parametrize(
    ("tag", "said"), [("v1.2.3", "the tag v1.2.3 exists"), ("v1.10.0", "there is a later tag, v1.10.0")]
)
def test_a_tag_that_is_there_is_a_problem(release, tree, tag, said):
    git(tree, "tag", tag)
    assert release.problems(tree, TODAY) == [said]


def test_earlier_and_other_tags_are_none(release, tree):
    for tag in ("v1.2.2", "v0.9.10", "other", "vision"):
        git(tree, "tag", tag)
    assert release.problems(tree, TODAY) == []


def test_the_tag_has_the_section_as_its_text_and_is_not_pushed(release, tree):
    assert release.make_tag(tree) == "v1.2.3"
    assert git(tree, "cat-file", "-t", "v1.2.3") == "tag\n"
    text = git(tree, "tag", "--list", "--format=%(contents)", "v1.2.3")
    assert text.strip() == "Procession 1.2.3\n\n- Something.\n\n### Removed\n\n- A name."
    assert git(tree.parent / "remote", "tag") == ""


def test_links_that_only_work_in_the_folder_are_found():
    sys.path.insert(0, str(TOOLS))
    try:
        found = importlib.import_module("check_package").links_into_the_folder
    finally:
        sys.path.remove(str(TOOLS))
    page = "[a](docs/a.md) [b](https://example.org/b) [c](#c) ![d](d.svg)\n<img src='e.png'>\n\n[f]: f.md\n"
    assert found(page) == ["docs/a.md", "d.svg", "e.png", "f.md"]
