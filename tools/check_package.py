"""Checks what a package index would show of the Python package. Prints what is missing; exit status 1 if anything is.

The description has no links and pictures that work in this folder only. The version is the same in Cargo.toml, its
dependencies, Cargo.lock and CHANGELOG.md. The classifiers are those of the Pythons that the tests run on. What waits
for a public address of the project is printed, and is no error: `make release` prints it too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from other_pythons import VERSIONS

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("description", "readme", "requires-python", "license", "license-files", "authors", "maintainers", "keywords")
EXTRAS = ("dask", "joblib", "progress", "threads", "torch")
ADDRESSES = ("Source", "Documentation", "Changelog", "Issues")
# of Markdown, of HTML, and those of Markdown that stand at the end of a page
LINKS = (r"\]\(([^)\s]+)[^)]*\)", r"<(?:img|a)\s[^>]*(?:src|href)=[\"']([^\"']+)", r"^\[[^\]]+\]:\s*(\S+)")
LINK = re.compile("|".join(LINKS), re.MULTILINE)
HEADING = re.compile(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def links_into_the_folder(text: str) -> list[str]:
    """The links and pictures of a page that do not work where only the page is shown."""
    found = ["".join(groups) for groups in LINK.findall(text)]
    return [link for link in found if not link.startswith(("#", "https://", "mailto:"))]


def wrong_metadata(root: Path) -> list[str]:
    project = read(root / "pyproject.toml")["project"]
    wrong = [f"pyproject.toml: [project] has no `{key}`" for key in NEEDED if not project.get(key)]
    extras = project["optional-dependencies"]
    wrong += [f"pyproject.toml: there is no extra `{name}`" for name in EXTRAS if name not in extras]
    everything = f"procession[{','.join(sorted(set(extras) - {'all'}))}]"
    if extras.get("all") != [everything]:
        wrong.append(f'pyproject.toml: the extra `all` is not ["{everything}"]')
    for page in [*root.glob("docs/*.md"), *root.glob("python/**/*.py"), *root.glob("examples/*.py")]:
        for named in re.findall(r"\bprocession\[([a-z,]+)\]", page.read_text(encoding="utf-8")):
            wrong += [
                f"{page}: names the extra `{name}`, which there is not"
                for name in named.split(",")
                if name not in extras
            ]
    marks = [name.removeprefix("Programming Language :: Python :: ") for name in project["classifiers"]]
    versions = tuple(mark for mark in marks if re.fullmatch(r"3\.\d+", mark))
    if versions != VERSIONS:
        wrong.append(f"pyproject.toml: the classifiers name Python {versions}, tools/other_pythons.py {VERSIONS}")
    if project["requires-python"] != f">={VERSIONS[0]}":
        wrong.append(f"pyproject.toml: requires-python is not that of tools/other_pythons.py, {VERSIONS[0]}")
    readme = project["readme"]["file"]
    page = (root / readme).read_text(encoding="utf-8")
    wrong += [f"{readme}: the link {link} does not work on a package index" for link in links_into_the_folder(page)]
    wrong += [f"{readme}: does not name the extra `{name}`" for name in extras if f"procession[{name}]" not in page]
    return wrong


def wrong_version(root: Path) -> list[str]:
    workspace = read(root / "Cargo.toml")["workspace"]
    version = workspace["package"]["version"]
    wrong = [
        f"Cargo.toml: the version of {name} is not {version}"
        for name, one in workspace["dependencies"].items()
        if name.startswith("procession") and one["version"] != version
    ]
    for lock in ("Cargo.lock", "benchmarks/rust/Cargo.lock"):
        ours = ("procession", "procession-core", "procession-inspect", "procession-python")
        for package in read(root / lock)["package"]:
            if package["name"] in ours and package["version"] != version:
                wrong.append(f"{lock}: the version of {package['name']} is {package['version']}, not {version}")
    released = [found[1] for found in HEADING.finditer((root / "CHANGELOG.md").read_text(encoding="utf-8"))]
    if version not in released:
        wrong.append(f"CHANGELOG.md: has no section `## {version} - DATE`")
    return wrong


def waiting(root: Path) -> list[str]:
    """What is missing as the project has no public address yet."""
    project = read(root / "pyproject.toml")["project"]
    addresses = project.get("urls", {})
    missing = [f"{name} in [project.urls] of pyproject.toml" for name in ADDRESSES if name not in addresses]
    if not any("email" in one for one in project["authors"]):
        missing.append("an e-mail address in `authors` of pyproject.toml")
    if "repository" not in read(root / "Cargo.toml")["workspace"]["package"]:
        missing.append("repository in [workspace.package] of Cargo.toml")
    if "has no public address yet" in (root / "SECURITY.md").read_text(encoding="utf-8"):
        missing.append("the address for reports in SECURITY.md")
    return missing


def main() -> int:
    wrong = [*wrong_metadata(ROOT), *wrong_version(ROOT)]
    if missing := waiting(ROOT):
        print("THESE WAIT FOR A PUBLIC ADDRESS:", "; ".join(missing))
    print("\n".join(wrong) if wrong else "package: described, and of one version")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
