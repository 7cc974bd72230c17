"""Builds the wheels of a release: one for each processor and C library that Procession supports.

zig (the package `ziglang`) compiles and links for all of them on one machine, and against symbols of old C libraries:
so a wheel runs on systems that are older than this machine. There is one wheel for all CPythons (abi3), and one for the
free-threaded 3.14, which has no stable interface. What cannot be built here is skipped aloud: a target needs the
standard library of Rust (`rustup target add TARGET`), the free-threaded wheel needs its interpreter.

Each wheel is checked: maturin looks for the symbols that the tag allows, its size has a limit, and it names no folder
of this machine. `make wheel-test` uses the wheel of this machine. Wheels for other processors are not run here.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from other_pythons import FREE_THREADED, find

# Rust's name of a target, and the oldest system on which its wheel is installed (PEP 600, PEP 656)
WHEELS = {
    "x86_64-unknown-linux-gnu": "manylinux_2_17",
    "aarch64-unknown-linux-gnu": "manylinux_2_17",
    "x86_64-unknown-linux-musl": "musllinux_1_2",
    "aarch64-unknown-linux-musl": "musllinux_1_2",
}
MOST = 8_000_000  # bytes of a wheel
ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sys.executable).parent  # of the environment that has maturin and zig
CARGO = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
# The compiler writes the paths of sources into the program, for panics. In a wheel they are the same for all machines.
RENAMED = {CARGO / "registry" / "src": "/registry", ROOT: "/procession"}


def has_standard_library(target: str) -> bool:
    command = ["rustc", "--print", "target-libdir", "--target", target]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()).is_dir()


def rust_flags() -> str:
    """Those of .cargo/config.toml, which the variable replaces, and the new names of folders."""
    own = tomllib.loads((ROOT / ".cargo" / "config.toml").read_text(encoding="utf-8"))["build"]["rustflags"]
    return "\x1f".join([*own, *(f"--remap-path-prefix={old}={new}" for old, new in RENAMED.items())])


def folders_in(wheel: Path) -> list[str]:
    """Which folders of this machine the wheel names."""
    archive = zipfile.ZipFile(wheel)
    contents = [archive.read(name) for name in archive.namelist()]
    return [str(folder) for folder in (ROOT, CARGO) if any(str(folder).encode() in content for content in contents)]


def build(target: str, tag: str, out: Path, python: str = sys.executable) -> Path:
    """Builds one wheel, and returns its path."""
    before = set(out.glob("*.whl"))
    command = [str(SCRIPTS / "maturin"), "build", "--release", "--quiet", "--zig", "--target", target]
    command += ["--compatibility", tag, "--out", str(out), "--target-dir", str(ROOT / "target" / "zig")]
    command += ["--interpreter", python]
    environment = {**os.environ, "CARGO_ZIGBUILD_ZIG_PATH": str(SCRIPTS / "python-zig")}
    environment["CARGO_ENCODED_RUSTFLAGS"] = rust_flags()
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    (wheel,) = set(out.glob("*.whl")) - before
    return wheel


def check(wheel: Path) -> bool:
    """Prints what the wheel is, and what is wrong with it. Returns whether nothing is."""
    size = wheel.stat().st_size
    folders = folders_in(wheel)
    print(f"{wheel.name}: {size / 1e6:.1f} MB" + (" IS TOO BIG" if size > MOST else ""))
    print(*(f"{wheel.name}: NAMES {folder}\n" for folder in folders), sep="", end="", flush=True)
    return size <= MOST and not folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "target" / "release-wheels", help="the folder for the wheels"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="targets that hold TEXT; repeatable"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.whl"):
        old.unlink()
    wrong = False
    for target, tag in WHEELS.items():
        if options.only and not any(text in target for text in options.only):
            continue
        if not has_standard_library(target):
            print(f"{target}: SKIPPED, rustup target add {target}")
            continue
        wheels = [build(target, tag, options.out)]
        if target == f"{platform.machine()}-unknown-linux-gnu":
            if python := find(FREE_THREADED):
                wheels.append(build(target, tag, options.out, python))
            else:
                print(f"a wheel for free-threaded CPython: SKIPPED, there is no Python {FREE_THREADED} here")
        for wheel in wheels:
            wrong |= not check(wheel)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
