"""Builds the wheel without the extension (`py3-none-any`), for systems of which there is no other wheel.

It needs neither Rust nor another package. A wheel for Linux has a tag of its processor and C library. pip prefers that
wheel to this one where both fit (its list of tags begins with the most specific ones), and any wheel to the source
distribution. So this one is installed on macOS and Windows, on PyPy, and on processors for which no wheel was built.

The name, the version and the other fields are those of `pyproject.toml` and `Cargo.toml`, as maturin writes them. Two
builds of the same sources are the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TAG = "py3-none-any"
SUFFIXES = (".py", ".pyi", ".typed")


def files() -> dict[str, bytes]:
    """The package, without the extension: name in the wheel -> contents."""
    paths = [path for path in (ROOT / "python").rglob("*") if path.suffix in SUFFIXES or path.name == "py.typed"]
    return {path.relative_to(ROOT / "python").as_posix(): path.read_bytes() for path in sorted(paths)}


def version() -> str:
    """The version of the workspace, which all wheels have."""
    with open(ROOT / "Cargo.toml", "rb") as file:
        found: str = tomllib.load(file)["workspace"]["package"]["version"]
    return found


def metadata(project: dict[str, Any]) -> str:
    """The text of METADATA (PEP 566, PEP 639)."""
    lines = ["Metadata-Version: 2.4", f"Name: {project['name']}", f"Version: {version()}"]
    lines += [f"Summary: {project['description']}"]
    for field, people in (("Author", project.get("authors", [])), ("Maintainer", project.get("maintainers", []))):
        for one in people:
            name, address = one.get("name"), one.get("email")
            lines.append(f"{field}-email: {name} <{address}>" if name and address else f"{field}: {name or address}")
    lines += [f"License-Expression: {project['license']}"]
    lines += [f"License-File: {path.name}" for path in licences(project)]
    if project.get("keywords"):
        lines.append(f"Keywords: {','.join(project['keywords'])}")
    lines += [f"Classifier: {text}" for text in [*project["classifiers"], "Operating System :: OS Independent"]]
    lines += [f"Project-URL: {name}, {address}" for name, address in project.get("urls", {}).items()]
    lines += [f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {needed}" for needed in project.get("dependencies", [])]
    for extra, needed in project.get("optional-dependencies", {}).items():
        lines.append(f"Provides-Extra: {extra}")
        for one in needed:
            what, _, marker = one.partition(";")
            condition = f"({marker.strip()}) and extra == '{extra}'" if marker else f"extra == '{extra}'"
            lines.append(f"Requires-Dist: {what.strip()} ; {condition}")
    lines += [f"Description-Content-Type: {project['readme']['content-type']}; charset=UTF-8"]
    return "\n".join(lines) + "\n\n" + (ROOT / project["readme"]["file"]).read_text(encoding="utf-8")


def licences(project: dict[str, Any]) -> list[Path]:
    return sorted(path for pattern in project["license-files"] for path in ROOT.glob(pattern))


def entry_points(project: dict[str, Any]) -> str:
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in made.items())
        for group, made in groups.items()
        if made
    )


def build(out: Path) -> Path:
    """Builds the wheel, and returns its path."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    name = f"{project['name']}-{version()}"
    info = f"{name}.dist-info"
    contents = files()
    contents[f"{info}/METADATA"] = metadata(project).encode()
    contents[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: procession\nRoot-Is-Purelib: true\nTag: {TAG}\n".encode()
    )
    contents[f"{info}/entry_points.txt"] = entry_points(project).encode()
    for path in licences(project):
        contents[f"{info}/licenses/{path.name}"] = path.read_bytes()
    record = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    contents[f"{info}/RECORD"] = ("\n".join([*record, f"{info}/RECORD,,"]) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{name}-{TAG}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path_in, data in contents.items():
            about = zipfile.ZipInfo(path_in)  # of 1980: so the same sources give the same bytes
            about.external_attr = 0o644 << 16
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "release-wheels", help="the folder for the wheel")
    wheel = build(parser.parse_args().out)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
