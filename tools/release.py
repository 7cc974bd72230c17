"""Checks that the tree is ready for a release, and tags it. Nothing is pushed and nothing is uploaded.

    make release          # checks, then makes the annotated tag vVERSION, whose text is the section of CHANGELOG.md
    make release-check    # only checks

A tree is ready if all of it is committed, if Cargo.toml, Cargo.lock and the topmost section of CHANGELOG.md have the
same version, if that section has a date that is not in the future, and if there is no such tag and no later one.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

import check_package

ROOT = Path(__file__).resolve().parent.parent
SECTION = re.compile(r"^## (?P<title>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
DATED = re.compile(r"(?P<version>\d+\.\d+\.\d+) - (?P<date>\d{4}-\d\d-\d\d)")


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def top_section(root: Path) -> tuple[str, str]:
    """The title and the text of the first section of CHANGELOG.md."""
    found = SECTION.search((root / "CHANGELOG.md").read_text(encoding="utf-8"))
    return (found["title"], found["text"].strip()) if found else ("", "")


def problems(root: Path, today: datetime.date) -> list[str]:
    """Why the tree is not ready."""
    version: str = check_package.read(root / "Cargo.toml")["workspace"]["package"]["version"]
    found = []
    if changed := git(root, "status", "--porcelain").splitlines():
        found.append(f"{len(changed)} files are not committed, such as {changed[0][3:]}")
    title, text = top_section(root)
    dated = DATED.fullmatch(title)
    if dated is None:
        found.append(f"CHANGELOG.md begins with `## {title}`, not with `## {version} - DATE`")
    else:
        if dated["version"] != version:
            found.append(f"CHANGELOG.md begins with {dated['version']}, Cargo.toml has {version}")
        try:
            if datetime.date.fromisoformat(dated["date"]) > today:
                found.append(f"CHANGELOG.md: {dated['date']} is in the future")
        except ValueError:
            found.append(f"CHANGELOG.md: {dated['date']} is no date")
        if not text:
            found.append(f"CHANGELOG.md says nothing about {version}")
    found += check_package.wrong_version(root)
    for tag in git(root, "tag", "--list", "v*").split():
        if tag == f"v{version}":
            found.append(f"the tag {tag} exists")
        elif re.fullmatch(r"v\d+\.\d+\.\d+", tag) and numbers(tag[1:]) > numbers(version):
            found.append(f"there is a later tag, {tag}")
    return found


def make_tag(root: Path) -> str:
    title, text = top_section(root)
    version = title.split()[0]
    message = f"Procession {version}\n\n{text}\n"
    # verbatim: lines of the section that begin with # would be taken for comments
    command = ["git", "tag", "--annotate", "--cleanup=verbatim", "--file", "-", f"v{version}"]
    subprocess.run(command, check=True, input=message, text=True, cwd=root)
    return f"v{version}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="make no tag")
    options = parser.parse_args()
    found = problems(ROOT, datetime.datetime.now(datetime.UTC).date())
    if found:
        print("not ready for a release:", *found, sep="\n  ")
        return 1
    if options.check:
        print("ready for a release")
        return 0
    tag = make_tag(ROOT)
    print(f"The tag {tag} is made, and nothing is pushed.")
    print(f"`git push REMOTE {tag}` starts .github/workflows/release.yml; `make dist` builds the same files here.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
