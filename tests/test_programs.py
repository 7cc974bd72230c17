"""Programs of the field's tutorials, which know nothing of Procession, print under it what they always printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from programs import run

PROGRAMS = Path(__file__).resolve().parents[2] / "shared" / "programs"


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Path:
    if not PROGRAMS.is_dir():
        pytest.skip(f"there is no {PROGRAMS.relative_to(PROGRAMS.parents[2])} beside this folder")
    return PROGRAMS / f"{request.param}.py"


@pytest.mark.parametrize(
    "program", ["hello_processes", "pipe_conversation", "pool_map", "shared_state", "tasks_and_done"], indirect=True
)
def test_a_program_prints_the_same_under_every_start_method(program, start_method, tmp_path):
    outcome = run("-m", "procession", program, start_method, cwd=tmp_path)
    assert outcome.well() == program.with_suffix(".out").read_text()


@pytest.mark.parametrize(
    "program", ["forkserver_messages", "hello_processes", "pool_map", "pool_numpy", "tasks_and_done"], indirect=True
)
def test_a_program_prints_the_same_without_arguments(program, tmp_path):
    assert run("-m", "procession", program, cwd=tmp_path).well() == program.with_suffix(".out").read_text()
