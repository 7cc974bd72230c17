"""What children do for the standard library's multiprocessing, if the program uses that as well.

Its queues, pipes and locks may be arguments of our processes. Some of them expect that a child begins and ends like a
child of that package: it empties the buffers of a forked queue, and waits for its threads at the end.
"""

from __future__ import annotations

import atexit
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["after_fork", "registered_for_exit", "standard_library", "take_name"]


def standard_library(module: str) -> ModuleType | None:
    """Returns that module of the standard library's multiprocessing, if it is imported and not ours."""
    found = sys.modules.get(f"multiprocessing.{module}")
    return None if found is sys.modules.get(f"procession.{module}") else found


def _is_used() -> bool:
    """Returns whether the program uses that package at all. Each child asks, so this must be fast."""
    theirs = sys.modules.get("multiprocessing.process")
    return theirs is not None and theirs is not sys.modules.get(_PROCESS)


_PROCESS = "procession.process"


def take_name(name: str) -> None:
    """Sets our name of the process in the standard library's package, which for example logging asks."""
    if not _is_used():
        return
    theirs = standard_library("process")
    if theirs is not None:
        theirs.current_process()._name = name


def after_fork() -> None:
    """Called in a forked child. Drops what belongs to the parent, and calls the functions to call after a fork."""
    if not _is_used():
        return
    process, util = standard_library("process"), standard_library("util")
    if process is not None:
        process._children = set()  # type: ignore[attr-defined]
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()


def registered_for_exit() -> None:
    """Called in a forked child, which has no exit functions yet. Registers that of the standard library's package."""
    util = standard_library("util") if _is_used() else None
    if util is not None:
        atexit.register(util._exit_function)
