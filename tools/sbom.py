"""The list of all parts of a wheel, as CycloneDX (JSON): crates/procession-python/sbom.cdx.json.

maturin puts the file into each wheel, as PEP 770 wants it. (It can make one itself, but that names the folders of the
machine, and is another one at each build.) The file has no time and no serial number, so the same sources have the same
file. `--check` compares it with Cargo.lock; `make lint` does that.

A crate that is only used while compiling (a macro, a build script) has the scope "excluded".
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "crates" / "procession-python" / "sbom.cdx.json"
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu")
LINE = re.compile(r"^(?P<depth>\d+)(?P<name>[\w-]+)\|v(?P<version>[^\s|]+)[^|]*\|(?P<licence>.*?)(?P<again> \(\*\))?$")


def tree(target: str, edges: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The crates of the wheel for one target, with their licences, and which of them each crate uses."""
    command = ["cargo", "tree", "--locked", "--package", "procession-python", "--features", "stacks"]
    command += ["--edges", edges, "--target", target, "--prefix", "depth", "--format", "{p}|{l}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    licences: dict[str, str] = {}
    uses: dict[str, set[str]] = {}
    path: list[str] = []
    for line in printed.splitlines():
        found = re.sub(r"^(\d+)([\w-]+) v", r"\1\2|v", line)
        match = LINE.match(found)
        if match is None:
            raise SystemExit(f"cargo tree has printed what this program does not understand: {line}")
        crate = f"{match['name']}@{match['version']}"
        licences[crate] = match["licence"]
        uses.setdefault(crate, set())
        depth = int(match["depth"])
        path[depth:] = [crate]
        if depth:
            uses[path[depth - 1]].add(crate)
    return licences, uses


def component(crate: str, licence: str, checksum: str | None, runs: bool) -> dict[str, Any]:
    name, version = crate.split("@")
    found: dict[str, Any] = {"type": "library", "bom-ref": f"pkg:cargo/{crate}", "name": name, "version": version}
    found["scope"] = "required" if runs else "excluded"
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    found["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    found["purl"] = f"pkg:cargo/{crate}"
    return found


def bill() -> dict[str, Any]:
    licences: dict[str, str] = {}
    uses: dict[str, set[str]] = {}
    run: set[str] = set()
    for target in TARGETS:
        named, used = tree(target, "normal,build")
        licences |= named
        for crate, others in used.items():
            uses.setdefault(crate, set()).update(others)
        run |= tree(target, "normal,no-proc-macro")[0].keys()
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    checksums = {f"{one['name']}@{one['version']}": one.get("checksum") for one in lock}
    version = next(one["version"] for one in lock if one["name"] == "procession-python")
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    root = f"pkg:pypi/procession@{version}"
    packages = [re.match(r"[\w.-]+", line)[0] for line in metadata["dependencies"]]  # type: ignore[index]
    product = {
        "type": "library",
        "bom-ref": root,
        "name": "procession",
        "version": version,
        "licenses": [{"expression": metadata["license"]}],
        "purl": root,
    }
    components = [component(crate, licences[crate], checksums[crate], crate in run) for crate in sorted(licences)]
    for name in packages:
        named = f"pkg:pypi/{name}"
        components.append({"type": "library", "bom-ref": named, "name": name, "scope": "required", "purl": named})
    uses[root] = {f"procession-python@{version}"}
    dependencies = [
        {
            "ref": crate if crate == root else f"pkg:cargo/{crate}",
            "dependsOn": sorted(f"pkg:cargo/{used}" for used in uses[crate])
            + [f"pkg:pypi/{name}" for name in packages if crate == root],
        }
        for crate in sorted(uses)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": product, "authors": metadata["authors"]},
        "components": components,
        "dependencies": dependencies,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the file with Cargo.lock, and write nothing")
    options = parser.parse_args()
    text = json.dumps(bill(), indent=1) + "\n"
    if not options.check:
        FILE.write_text(text, encoding="utf-8")
        print(FILE.relative_to(ROOT))
        return 0
    if not FILE.exists() or FILE.read_text(encoding="utf-8") != text:
        print(f"{FILE.relative_to(ROOT)} is not that of Cargo.lock: make sbom")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
