"""What tests of the project's tools share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch) -> Callable[[str], ModuleType]:
    """Returns the function that imports a tool."""
    if not TOOLS.exists():
        pytest.skip("the tools are not part of an installed package")
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return importlib.import_module
