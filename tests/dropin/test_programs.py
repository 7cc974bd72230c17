"""Programs of the field's tutorials, which know nothing of Procession, print with it what they always printed: run by
`python -m procession`, after `install()`, and with the import changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from programs import Outcome, run

PROGRAMS = Path(__file__).resolve().parents[3] / "shared" / "programs"

# Which of them take the name of a start method as their argument.
WITH_METHOD = (
    "hello_processes",
    "managed_state",
    "pipe_conversation",
    "pool_map",
    "shared_state",
    "tasks_and_done",
)
WITHOUT = ("forkserver_messages", "pool_numpy", "remote_queue", "responsive_main")


def unchanged(program: Path, folder: Path, *arguments: str) -> Outcome:
    """As `python -m procession PROGRAM` runs it."""
    return run("-m", "procession", program, *arguments, cwd=folder)


def installed(program: Path, folder: Path, *arguments: str) -> Outcome:
    """As a program that begins with `install()`, once for its children too."""
    text = program.read_text()
    docstring, rest = re.fullmatch(r'(""".*?"""\n)(.*)', text, re.DOTALL).groups()
    copy = folder / program.name
    copy.write_text(f"{docstring}import procession\nprocession.install()\n{rest}")
    return run(copy, *arguments, cwd=folder)


def with_another_import(program: Path, folder: Path, *arguments: str) -> Outcome:
    """As a program whose author has changed the import, and nothing else."""
    text = program.read_text()
    text = re.sub(r"^import multiprocessing$", "import procession as multiprocessing", text, flags=re.MULTILINE)
    text = re.sub(r"^import multiprocessing as (\w+)$", r"import procession as \1", text, flags=re.MULTILINE)
    text = re.sub(r"^from multiprocessing(\S*) import", r"from procession\1 import", text, flags=re.MULTILINE)
    assert not re.search("(import|from) multiprocessing", text)
    copy = folder / program.name
    copy.write_text(text)
    return run(copy, *arguments, cwd=folder)


WAYS = [unchanged, installed, with_another_import]


def check(way, name: str, folder: Path, *arguments: str) -> None:
    if not PROGRAMS.is_dir():
        pytest.skip(f"there is no {PROGRAMS.relative_to(PROGRAMS.parents[2])} beside this folder")
    if name == "pool_numpy":
        pytest.importorskip("numpy")
    program = PROGRAMS / f"{name}.py"
    assert way(program, folder, *arguments).well() == program.with_suffix(".out").read_text()


def test_every_program_is_known():
    if PROGRAMS.is_dir():
        assert {program.stem for program in PROGRAMS.glob("*.py")} == {*WITH_METHOD, *WITHOUT}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", WITH_METHOD)
def test_a_program_prints_the_same_under_every_start_method(way, name, start_method, tmp_path):
    check(way, name, tmp_path, start_method)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", [*WITH_METHOD, *WITHOUT])
def test_a_program_prints_the_same_without_arguments(way, name, tmp_path):
    check(way, name, tmp_path)


@pytest.mark.parametrize("way", [unchanged, with_another_import], ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", WITH_METHOD)
def test_a_program_prints_the_same_without_the_extension(way, name, start_method, tmp_path, monkeypatch):
    monkeypatch.setenv("PROCESSION_FALLBACK", "1")
    check(way, name, tmp_path, start_method)
