"""The wheels of a release (`tools/build_wheels.py`): what is compiled into them, and what is not."""

from __future__ import annotations

import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def wheels(tool) -> ModuleType:
    return tool("build_wheels")


def test_the_flags_of_the_project_are_kept_beside_the_new_names_of_folders(wheels):
    flags = wheels.rust_flags().split("\x1f")
    own = tomllib.loads((ROOT / ".cargo" / "config.toml").read_text())["build"]["rustflags"]
    assert flags[: len(own)] == own
    assert f"--remap-path-prefix={ROOT}=/procession" in flags


@pytest.mark.parametrize("named", [True, False], ids=["a folder", "none"])
def test_a_wheel_that_names_a_folder_of_the_machine_is_found(wheels, tmp_path, capsys, named):
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/_core.so", b"\0" + (bytes(ROOT) if named else b"/procession") + b"/src/lib.rs\0")
    assert wheels.folders_in(path) == ([str(ROOT)] if named else [])
    assert wheels.check(path) is not named
    assert ("NAMES" in capsys.readouterr().out) is named


def test_a_free_threaded_python_is_not_taken_for_one_with_the_lock(tool):
    pythons = tool("other_pythons")
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert pythons.answers(sys.executable, number) is not free
    assert pythons.answers(sys.executable, f"{number}t") is free
