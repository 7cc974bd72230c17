"""Checks what the project depends on. Prints what is wrong; exit status 1 if anything is.

- docs/dependencies.md says of each crate and Python package why it is used, and names no other.
- Cargo.lock is in step with Cargo.toml. Each crate comes from a registry, and has a checksum.
- Each crate has a licence that deny.toml allows.
- Each file of locks/ has the versions of its requirements-*.txt, and a hash for each package.

`make deny` asks cargo-deny, which also knows yanked crates and known weaknesses.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "docs" / "dependencies.md"
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
# Not pinned with hashes: `make bench` installs what it can of these, one by one.
UNLOCKED = ("bench",)

ROW = re.compile(r"^\| (`[^|]*`) \|", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)", re.MULTILINE)


def normal(name: str) -> str:
    """A Python package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def crates(root: Path) -> Iterator[str]:
    """What the tracked manifests of Rust depend on, but for our own crates."""
    manifests = [*root.glob("crates/*/Cargo.toml"), *root.glob("benchmarks/*/Cargo.toml"), root / "fuzz/Cargo.toml"]
    for manifest in manifests:
        content = read(manifest)
        for part in (content, *content.get("target", {}).values()):
            for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
                for name in part.get(kind, {}):
                    if not name.startswith("procession"):
                        yield name


def packages(root: Path) -> Iterator[str]:
    """What the Python package depends on, and what its tools, tests and comparisons do."""
    content = read(root / "pyproject.toml")
    wanted = [*content["build-system"]["requires"], *content["project"]["dependencies"]]
    for extra in content["project"]["optional-dependencies"].values():
        wanted += extra
    for requirements in root.glob("requirements-*.txt"):
        wanted += [line for line in requirements.read_text().splitlines() if line[:1].isalpha()]
    for line in wanted:
        name = NAME.match(line)
        if name and name[0] != "procession":
            yield normal(name[0])


def described(text: str) -> set[str]:
    return {normal(name) for row in ROW.findall(text) for name in re.findall(r"`([^`]+)`", row)}


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether a crate with this expression of licences (SPDX) may be used under one of these."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def one() -> bool:
        nonlocal at
        word = words[at]
        at += 1
        if word == "(":
            inside = any_of()
            at += 1  # the bracket that closes
            return inside
        if words[at : at + 1] == ["WITH"]:
            word = " ".join((word, *words[at : at + 2]))
            at += 2
        return word in licences

    def all_of() -> bool:
        nonlocal at
        result = one()
        while words[at : at + 1] == ["AND"]:
            at += 1
            result = one() and result
        return result

    def any_of() -> bool:
        nonlocal at
        result = all_of()
        while words[at : at + 1] == ["OR"]:
            at += 1
            result = all_of() or result
        return result

    return any_of()


def check_crates(root: Path) -> Iterator[str]:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    command += [word for target in TARGETS for word in ("--filter-platform", target)]
    asked = subprocess.run(command, check=False, capture_output=True, text=True, cwd=root)
    if asked.returncode:
        yield f"Cargo.lock: {asked.stderr.strip()}"
        return
    licences = set(read(root / "deny.toml")["licenses"]["allow"])
    for package in json.loads(asked.stdout)["packages"]:
        name = f"{package['name']} {package['version']}"
        if not allowed(package["license"] or "none", licences):
            yield f"{name}: its licence, {package['license']}, is not in deny.toml"
        if package["source"] and not package["source"].startswith("registry+"):
            yield f"{name}: comes from {package['source']}, which is no registry"
    for package in read(root / "Cargo.lock")["package"]:
        if "source" in package and "checksum" not in package:
            yield f"{package['name']} {package['version']}: has no checksum in Cargo.lock"


def check_locks(root: Path) -> Iterator[str]:
    for requirements in sorted(root.glob("requirements-*.txt")):
        name = requirements.stem.removeprefix("requirements-")
        if name in UNLOCKED:
            continue
        lock = root / "locks" / f"{name}.txt"
        if not lock.exists():
            yield f"{lock.relative_to(root)} is missing: make locks"
            continue
        text = lock.read_text(encoding="utf-8")
        locked = {(normal(package), version) for package, version in PINNED.findall(text)}
        for package, version in PINNED.findall(requirements.read_text(encoding="utf-8")):
            if (normal(package), version) not in locked:
                yield f"{lock.relative_to(root)}: has not {package}=={version} of {requirements.name}: make locks"
        for part in re.split(r"\n(?=[\w.-]+(?:\[|==))", text):
            first = PINNED.match(part)
            if first and "--hash=sha256:" not in part:
                yield f"{lock.relative_to(root)}: {first[1]} has no hash"


def main() -> int:
    text = TABLES.read_text(encoding="utf-8")
    rust, python = text.split("\n## Python", 1)
    wrong = []
    for title, told, used in (
        ("crate", described(rust), {normal(name) for name in crates(ROOT)}),
        ("Python package", described(python), set(packages(ROOT))),
    ):
        wrong += [f"docs/dependencies.md: does not say why the {title} {name} is used" for name in sorted(used - told)]
        wrong += [f"docs/dependencies.md: names the {title} {name}, which is not used" for name in sorted(told - used)]
    wrong += [*check_crates(ROOT), *check_locks(ROOT)]
    print("\n".join(wrong) if wrong else "dependencies: described, locked, and under allowed licences")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
