"""How many CPUs there are: for programs that ask, and for pools that are not told."""

from __future__ import annotations

import os
import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..context import BaseContext

__all__ = ["count", "workers"]


def count() -> int:
    """How many CPUs this process can keep busy; see `procession.cpu_count`.

    NotImplementedError: somebody has replaced `os.cpu_count` by a function that says that it is not known.
    """
    told = _replaced("cpu_count")
    if told is None:
        return _option() or _core.cpu_count()
    number = told()
    if number is None:
        raise NotImplementedError("os.cpu_count() says that the number of CPUs is not known")
    return number


def workers(context: BaseContext) -> int:
    """How many workers a pool has that is not told."""
    told = _replaced("process_cpu_count") or _replaced("cpu_count")
    return context.cpu_count() if told is None else told() or 1


def _replaced(name: str) -> Callable[[], int | None] | None:
    """The function of os with this name, if it is not Python's own: tests mock it, and programs limit themselves."""
    found: Any = getattr(os, name, None)
    if found is None or type(found) is type(len) or getattr(found, "__globals__", None) is vars(os):
        return None
    replacement: Callable[[], int | None] = found
    return replacement


def _option() -> int | None:
    """What -X cpu_count or PYTHON_CPU_COUNT says. (Python itself heeds them from 3.13 on.)"""
    said: Any = sys._xoptions.get("cpu_count")
    if said is None and not sys.flags.ignore_environment:
        said = os.environ.get("PYTHON_CPU_COUNT")
    if isinstance(said, str) and said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    return None
