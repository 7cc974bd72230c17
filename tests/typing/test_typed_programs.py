"""Typed programs: each type checker infers for them what it infers with multiprocessing, and finds the same errors."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import checkers
import pytest

PROGRAMS = Path(__file__).parent / "programs"

# Programs that use additions only: they say themselves (`assert_type`) which types they expect.
OURS_ALONE = {"dicts"}

# Where an answer differs from the one for multiprocessing: the line and the reason.
DIFFERENCES = {
    "reveal_type(listener.address)": "the address has no type, as in typeshed since 2026; older ones have two types",
    "reveal_type(wait([here, there], timeout=1))": "mypy says list[Any]: `wait` takes queues and events too",
    "reveal_type(own.address)": "the address has no type: it is of the family that the program has chosen",
    "reveal_type(mp.Value(ctypes.c_int, 1, lock=False))": "there is no lock, so it is the ctypes object itself",
    "reveal_type(mp.Array(ctypes.c_double, 3, lock=False))": "there is no lock, so it is the ctypes array itself",
    "reveal_type(context.Condition().wait_for(lambda: True))": "the value that the predicate returned, with its type",
}

CHECKERS = {"mypy": checkers.mypy, "basedpyright": checkers.pyright, "ty": checkers.ty}


@pytest.fixture(scope="module", params=CHECKERS)
def said(request, tmp_path_factory) -> checkers.Said:
    """What one checker says about all programs, each also with multiprocessing."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed (requirements-dev.txt)")
    folder = tmp_path_factory.mktemp(request.param)
    for program in PROGRAMS.glob("*.py"):
        text = program.read_text()
        (folder / f"ours_{program.name}").write_text(text)
        if program.stem not in OURS_ALONE:
            theirs = text.replace("procession.futures", "concurrent.futures").replace("procession", "multiprocessing")
            (folder / f"theirs_{program.name}").write_text(theirs)
    return CHECKERS[request.param](folder)


def lines(program: Path) -> list[tuple[int, str]]:
    return list(enumerate(program.read_text().splitlines(), 1))


def test_a_checker_infers_the_types_that_it_infers_with_multiprocessing(said):
    different = []
    compared = 0
    for program in PROGRAMS.glob("*.py"):
        if program.stem in OURS_ALONE:
            continue
        for number, line in lines(program):
            ours = said.get((f"ours_{program.name}", number), set()) - {"error"}
            theirs = said.get((f"theirs_{program.name}", number), set()) - {"error"}
            compared += bool(theirs)
            if ours != theirs and line.strip() not in DIFFERENCES:
                different.append(f"{program.name}:{number}: {line.strip()}: {ours}, multiprocessing: {theirs}")
    assert not different, "\n".join(different)
    assert compared > 50


def test_a_checker_finds_the_errors_of_a_program_and_no_others(said):
    wrong = []
    for program in PROGRAMS.glob("*.py"):
        for number, line in lines(program):
            found = "error" in said.get((f"ours_{program.name}", number), set())
            if found != line.endswith("# error"):
                wrong.append(f"{program.name}:{number}: {line.strip()}: {'an error' if found else 'no error'}")
    assert not wrong, "\n".join(wrong)


def test_each_listed_difference_is_a_line_of_a_program():
    known = {line.strip() for program in PROGRAMS.glob("*.py") for _, line in lines(program)}
    assert set(DIFFERENCES) <= known
    assert all(re.search(r"\w", reason) for reason in DIFFERENCES.values())
