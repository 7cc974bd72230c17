"""Builds the wheels of a release: one for each processor and C library that Procession supports.

zig (the package `ziglang`) compiles and links for all of them on one machine, and against symbols of old C libraries:
so a wheel runs on systems that are older than this machine. There is one wheel for all CPythons (abi3). What cannot be
built here is skipped aloud: a target needs the standard library of Rust (`rustup target add TARGET`).

Each wheel is checked: maturin looks for the symbols that the tag allows, its size has a limit, and that of this machine
is used by `make wheel-test`. Wheels for other processors are not run here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

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


def has_standard_library(target: str) -> bool:
    command = ["rustc", "--print", "target-libdir", "--target", target]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()).is_dir()


def build(target: str, tag: str, out: Path) -> Path:
    """Builds one wheel, and returns its path."""
    before = set(out.glob("*.whl"))
    command = [str(SCRIPTS / "maturin"), "build", "--release", "--quiet", "--zig", "--target", target]
    command += ["--compatibility", tag, "--out", str(out), "--target-dir", str(ROOT / "target" / "zig")]
    command += ["--interpreter", sys.executable]
    environment = {**os.environ, "CARGO_ZIGBUILD_ZIG_PATH": str(SCRIPTS / "python-zig")}
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    (wheel,) = set(out.glob("*.whl")) - before
    return wheel


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
    too_big = False
    for target, tag in WHEELS.items():
        if options.only and not any(text in target for text in options.only):
            continue
        if not has_standard_library(target):
            print(f"{target}: SKIPPED, rustup target add {target}")
            continue
        wheel = build(target, tag, options.out)
        size = wheel.stat().st_size
        too_big |= size > MOST
        print(f"{wheel.name}: {size / 1e6:.1f} MB" + (" IS TOO BIG" if size > MOST else ""), flush=True)
    return int(too_big)


if __name__ == "__main__":
    sys.exit(main())
