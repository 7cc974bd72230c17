"""Runs type checkers over programs, and reads what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

BIN = Path(sys.executable).parent

# What a checker says about a line: "error", or the type that it reveals.
Said = dict[tuple[str, int], set[str]]


def _run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def mypy(folder: Path) -> Said:
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    options = ["--config-file=mypy.ini", "--no-pretty", "--no-color-output", f"--python-executable={sys.executable}"]
    told = _run(folder, sys.executable, "-m", "mypy", *options, ".")
    return _lines(told, r'^(?P<file>[\w/.]+):(?P<line>\d+): (?:note: Revealed type is "(?P<type>.*)"|error: .*)$')


def ty(folder: Path) -> Said:
    told = _run(folder, BIN / "ty", "check", "--output-format=concise", f"--python={sys.prefix}", ".")
    return _lines(
        told,
        r"^(?P<file>[\w/.]+):(?P<line>\d+):\d+: (?:info\[revealed-type\] Revealed type: `(?P<type>.*)`|error\[.*)$",
    )


def _lines(told: str, pattern: str) -> Said:
    said: Said = defaultdict(set)
    for found in re.finditer(pattern, told, re.MULTILINE):
        said[found["file"], int(found["line"])].add(_short(found["type"] or "error"))
    return said


def pyright(folder: Path) -> Said:
    settings = {
        "typeCheckingMode": "standard",
        "pythonPlatform": "Linux",  # otherwise it means every platform, where typeshed has more kinds of connections
        "venvPath": str(Path(sys.prefix).parent),
        "venv": Path(sys.prefix).name,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    told = json.loads(_run(folder, BIN / "basedpyright", "--outputjson"))
    said: Said = defaultdict(set)
    for one in told["generalDiagnostics"]:
        place = Path(one["file"]).name, one["range"]["start"]["line"] + 1
        revealed = re.fullmatch(r'Type of ".*" is "(.*)"', one["message"], re.DOTALL)
        if one["severity"] == "error":
            said[place].add("error")
        elif revealed:
            said[place].add(_short(revealed[1]))
    return said


def _short(revealed: str) -> str:
    """Takes the names of modules out of the text of a type."""
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", revealed)
