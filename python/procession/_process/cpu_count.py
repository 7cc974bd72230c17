"""The number of CPUs, for programs that ask and for pools without a given number of workers."""

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
    """Returns how many CPUs this process can keep busy; see `procession.cpu_count`.

    NotImplementedError: a program has replaced `os.cpu_count` by a function that returns None.
    """
    told = _replaced("cpu_count")
    if told is None:
        return _option() or _core.cpu_count()
    number = told()
    if number is None:
        raise NotImplementedError("os.cpu_count() says that the number of CPUs is not known")
    return number


def workers(context: BaseContext) -> int:
    """Returns the default number of workers of a pool."""
    told = _replaced("process_cpu_count") or _replaced("cpu_count")
    return context.cpu_count() if told is None else told() or 1


def _replaced(name: str) -> Callable[[], int | None] | None:
    """Returns the function of `os` with this name if a program or test has replaced it; else None."""
    found: Any = getattr(os, name, None)
    if found is None or type(found) is type(len) or getattr(found, "__globals__", None) is vars(os):
        return None
    replacement: Callable[[], int | None] = found
    return replacement


def _option() -> int | None:
    """Returns the value of -X cpu_count or PYTHON_CPU_COUNT. (Python itself obeys them from 3.13 on.)"""
    said: Any = sys._xoptions.get("cpu_count")
    if said is None and not sys.flags.ignore_environment:
        said = os.environ.get("PYTHON_CPU_COUNT")
    if isinstance(said, str) and said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    return None
