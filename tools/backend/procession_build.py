"""The build backend that `pyproject.toml` names: maturin, behind a look for what it needs.

Without Rust, maturin downloads a compiler into a folder of its own, and fails where it cannot; a compiler that is too
old fails with an error of cargo. So each hook first looks for cargo, and ends the build with one sentence that says
what to install.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import maturin

ROOT = Path(__file__).resolve().parents[2]
WHERE = "https://rustup.rs"
BUILT = {"target", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}


def missing() -> str | None:
    """What to install before Procession can be compiled here, as a sentence. None: nothing."""
    [oldest] = re.findall(r'^rust-version = "(.*)"$', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)
    needed = f"Building Procession from its sources needs Rust {oldest} or later"
    if sys.platform != "linux":
        return f"The extension of Procession compiles on Linux only, and this system is {sys.platform}."
    cargo = shutil.which("cargo")
    if cargo is None:
        return f"{needed}: install it from {WHERE}, and try again."
    asked = subprocess.run([cargo, "--version"], check=False, capture_output=True, text=True, cwd=ROOT)
    found = re.match(r"cargo (\d+)\.(\d+)", asked.stdout)
    if found is None:
        return f"{needed}, and {cargo} does not work: {asked.stderr.strip()}"
    if tuple(map(int, found.groups())) < tuple(map(int, oldest.split("."))):
        have = ".".join(found.groups())
        return f"{needed}, and {cargo} is {have}: run `rustup update`, or install a later one from {WHERE}."
    return None


def look() -> None:
    sentence = missing()
    if sentence is not None:
        raise SystemExit(sentence)


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    look()
    return maturin.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings: dict[str, Any] | None = None) -> list[str]:
    look()
    return maturin.get_requires_for_build_editable(config_settings)


def get_requires_for_build_sdist(config_settings: dict[str, Any] | None = None) -> list[str]:
    look()
    return maturin.get_requires_for_build_sdist(config_settings)


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    look()
    return maturin.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    look()
    return maturin.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    look()
    return maturin.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    look()
    return maturin.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    look()
    if (ROOT / ".git").exists():
        return maturin.build_sdist(sdist_directory, config_settings)
    return pack_again(Path(sdist_directory))


def pack_again(folder: Path) -> str:
    """Packs an unpacked source distribution, without what was built in it. (maturin asks git for the files.)"""
    if not (ROOT / "PKG-INFO").exists():
        raise SystemExit("A source distribution of Procession is made in a clone of its git repository.")
    [version] = re.findall("^Version: (.*)$", (ROOT / "PKG-INFO").read_text(encoding="utf-8"), re.MULTILINE)
    name = f"procession-{version}"

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        last = Path(entry.name).name
        built = last in BUILT or last.startswith(".venv") or last.endswith((".so", ".pyc"))
        return None if built or Path(entry.name) == Path(name, "dist") else entry

    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
        archive.add(ROOT, name, filter=wanted)
    return f"{name}.tar.gz"
