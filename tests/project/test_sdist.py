"""What is in a source distribution, and what its build says where there is no Rust."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deadlines import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
MATURIN = ROOT / ".venv" / "bin" / "maturin"

# Calls a hook of the backend as pip does: in the folder of pyproject.toml, with `backend-path` on sys.path.
HOOK = """
import sys
sys.path.insert(0, sys.argv[1])
import procession_build
print(getattr(procession_build, sys.argv[2])(*sys.argv[3:]))
"""
HOOKS = ["get_requires_for_build_wheel", "get_requires_for_build_editable", "get_requires_for_build_sdist"]


@pytest.fixture
def backend(tmp_path: Path):
    """Runs a hook of the backend, with a stand-in for maturin and only one folder in PATH."""
    (tmp_path / "maturin.py").write_text(
        "def get_requires_for_build_wheel(settings=None): return ['asked maturin']\n"
        "get_requires_for_build_editable = get_requires_for_build_sdist = get_requires_for_build_wheel\n"
        "def build_wheel(folder, settings=None, metadata=None): return 'built.whl'\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()

    def run(hook: str, *arguments: str, cargo: str = "", project: Path = ROOT) -> subprocess.CompletedProcess[str]:
        if cargo:
            (programs / "cargo").write_text(f"#!/bin/sh\n{cargo}\n")
            (programs / "cargo").chmod(0o755)
        command = [sys.executable, "-c", HOOK, str(project / "tools" / "backend"), hook, *arguments]
        environment = {"PATH": str(programs), "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)

    return run


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the files that git tracks are compared")
@pytest.mark.skipif(shutil.which("cargo") is None, reason="a source distribution is made by cargo")
def test_all_tracked_files_are_in_the_source_distribution_and_no_other_ones(tmp_path: Path):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = {name for name in listing.split("\0") if name and (ROOT / name).exists()}
    command = [MATURIN if MATURIN.exists() else "maturin", "sdist", "--out", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        found = {member.name.partition("/")[2] for member in files.getmembers() if not member.isdir()}
        assert found == tracked | {"PKG-INFO"}
        # the flags without which the extension does not compile
        (flags,) = (name for name in files.getnames() if name.endswith("/.cargo/config.toml"))
        member = files.extractfile(flags)
        assert member is not None
        assert b"pyo3_disable_reference_pool" in member.read()


def test_an_unpacked_source_distribution_is_packed_again_without_what_was_built_in_it(backend, tmp_path: Path):
    folder = tmp_path / "procession-1.2.3"
    built = ["target/release/a.d", "dist/old.tar.gz", ".venv/bin/python", "p/_core.abi3.so", "p/__pycache__/a.pyc"]
    kept = ["PKG-INFO", "Cargo.toml", "python/p/a.py", ".cargo/config.toml", "docs/dist/a.md"]
    for name in [*built, *kept]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("Name: p\nVersion: 1.2.3\n" if name == "PKG-INFO" else 'rust-version = "1.80"\n')
    shutil.copytree(ROOT / "tools" / "backend", folder / "tools" / "backend")
    done = backend("build_sdist", str(tmp_path), cargo="echo 'cargo 1.99.0'", project=folder)
    assert (done.stdout, done.stderr) == ("procession-1.2.3.tar.gz\n", "")
    with tarfile.open(tmp_path / "procession-1.2.3.tar.gz") as files:
        found = {member.name.partition("/")[2] for member in files.getmembers() if not member.isdir()}
    assert found == {*kept, "tools/backend/procession_build.py"}


@pytest.mark.parametrize("hook", [*HOOKS, "build_wheel"])
def test_a_build_without_rust_says_in_one_sentence_what_to_install(backend, hook):
    done = backend(hook, *(["folder"] if hook == "build_wheel" else []))
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Building Procession from its sources needs Rust 1.") and "install it from" in sentence


def test_a_build_with_an_old_rust_says_so(backend):
    done = backend(HOOKS[0], cargo="echo 'cargo 1.75.0 (abc 2023-12-01)'")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert " is 1.75: run `rustup update`" in sentence


def test_a_build_with_a_cargo_that_does_not_work_says_why(backend):
    done = backend(HOOKS[0], cargo="echo 'rustup has no default toolchain' >&2; exit 1")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith("does not work: rustup has no default toolchain")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_build_with_rust_asks_maturin(backend, hook):
    done = backend(hook, cargo="echo 'cargo 1.120.0 (abc 2030-01-01)'")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['asked maturin']\n", "")
