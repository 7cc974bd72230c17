"""What an initializer leaves in global variables of the main module, for the tasks of its worker."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from procession._cluster import main_globals


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_globals, "_kept", {})


def arrives(source: str, name: str, sent: dict[str, Any]) -> Any:
    """Returns a function as it arrives in a worker, with the global variables that were sent with it."""
    variables = dict(sent)
    exec(source, variables)
    function = variables[name]
    main_globals._set(function, (lambda function, state: None, None))
    return function


def initialize(source: str, sent: dict[str, Any]) -> None:
    with main_globals.arriving() as functions:
        arrives(source, "begin", sent)
    before = [dict(function.__globals__) for function in functions]
    functions[0]()
    main_globals.keep(functions, before)


def task(sent: dict[str, Any]) -> Any:
    return arrives("def task(): return value", "task", sent)()


def test_what_it_assigns_is_there_in_tasks() -> None:
    initialize("def begin():\n global value\n value = 3", {"value": 0})
    assert task({"value": 1}) == 3


@pytest.mark.parametrize("same", [False, None, 0, "text"])
def test_what_it_assigns_is_kept_also_if_it_was_the_same_before(same: object) -> None:
    initialize("def begin():\n global value\n value = same", {"value": same, "same": same})
    assert task({"value": "of the task"}) is same


def test_what_it_changes_is_kept() -> None:
    initialize("def begin(): value.append(1)", {"value": []})
    assert task({"value": []}) == [1]


@pytest.mark.parametrize("kind", [Colour, int, str])
def test_what_it_only_reads_is_that_of_the_task(kind: Any) -> None:
    old, new = list(Colour) if kind is Colour else (kind(1), kind(2))
    initialize("def begin(): value", {"value": old})
    assert task({"value": new}) is new
