"""The functions of the extension that plain Python can replace, for the modules that both ways use.

It stands for `procession._core`.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import refusal

__all__ = ["PoolEngine", "cpu_count", "explain_limit", "oom_kills"]


class PoolEngine:
    """Stands for the class of the engine in Rust, of which there are no objects here."""


def cpu_count() -> int:
    """Returns how many CPUs this process may use, as far as the system tells it."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # there is no such function on macOS and Windows
        return os.cpu_count() or 1


def explain_limit(error: OSError, doing: str, *, starts: bool = False) -> None:
    """Does nothing: the error stays as the system has told it."""


def oom_kills() -> None:
    """Returns None: the number is not known."""


def leave_report(report: bytes) -> bool:
    """Returns False: a process has no place for a report."""
    return False


def describe(*about: object) -> None:
    """Does nothing: there are no observers."""


def release_signals() -> None:
    """Does nothing: signals are not held back."""


def _place() -> str:
    return ""


def _report_progress(done: Any, total: Any, text: Any) -> None:
    pass


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # imported late: it takes as long as the rest

        try:
            return metadata.version("procession")
        except metadata.PackageNotFoundError:  # a frozen program
            return "unknown"
    if name.startswith("__"):
        raise AttributeError(name)
    raise refusal(f"procession._core.{name}")
