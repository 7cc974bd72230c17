"""flake8 finds what is wrong in many files."""

import runpy
import sys
from pathlib import Path

import loaded  # noqa: F401


def main():
    for n in range(40):
        lines = ["import os", f"def function_{n} ( x ):", f"    y_{n} = {n};", "    return undefined"] * (1 + n % 5)
        Path(f"module_{n:02}.py").write_text("\n".join(lines))
    sys.argv = ["flake8", "-j", "2", "--exit-zero", "."]
    runpy.run_module("flake8", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
