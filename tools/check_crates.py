"""Checks what `cargo publish` would upload: each crate's description, and the files that must and must not be in it.

Prints what is missing; exit status 1 if anything is. `make publish-check` compiles the packages too.
"""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys

# What a page of a registry shows of a crate.
DESCRIBED = ("description", "license", "readme", "documentation", "keywords", "categories", "rust_version", "authors")
NEEDED = ("README.md", "LICENSE-MIT", "LICENSE-APACHE", "Cargo.toml", "src/lib.rs")
# What belongs there: sources, what tests and examples read, and what cargo adds.
EXPECTED = (
    "*.rs",
    "src/*.css",
    "src/*.js",
    "*.md",
    "LICENSE-*",
    "Cargo.*",
    ".cargo_vcs_info.json",
    "tests/*",
    "examples/*",
    "fields.txt",
)


def output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    wrong = []
    packages = json.loads(output("cargo", "metadata", "--no-deps", "--format-version", "1"))["packages"]
    for package in packages:
        name = package["name"]
        if package["publish"] == []:
            continue
        wrong += [f"{name}: Cargo.toml has no `{key}`" for key in DESCRIBED if not package.get(key)]
        if "docs" not in (package["metadata"] or {}):
            wrong.append(f"{name}: Cargo.toml has no [package.metadata.docs.rs]")
        files = output("cargo", "package", "--quiet", "--list", "--allow-dirty", "--package", name).splitlines()
        wrong += [f"{name}: the package has no {needed}" for needed in NEEDED if needed not in files]
        for file in files:
            if not any(fnmatch.fnmatchcase(file, pattern) for pattern in EXPECTED):
                wrong.append(f"{name}: {file} is in the package, but does not belong there")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
