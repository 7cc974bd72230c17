"""What children owe to the standard library's multiprocessing, if the program uses that as well.

Its queues, pipes and locks may be arguments of our processes. Some of them expect that a child begins and ends as a
child of that package does: buffers of a forked queue are emptied, its threads are waited for at the end.
"""

from __future__ import annotations

import atexit
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["after_fork", "registered_for_exit", "standard_library", "take_name"]


def standard_library(module: str) -> ModuleType | None:
    """The standard library's multiprocessing module of that name, if the program has imported it and it is not ours."""
    found = sys.modules.get(f"multiprocessing.{module}")
    return None if found is sys.modules.get(f"procession.{module}") else found


def _is_used() -> bool:
    """Whether the program uses it at all: what each child asks, so with as little as can be."""
    theirs = sys.modules.get("multiprocessing.process")
    return theirs is not None and theirs is not sys.modules.get(_PROCESS)


_PROCESS = "procession.process"


def take_name(name: str) -> None:
    """Who asks the standard library how the process is called (logging does) is told our name."""
    if not _is_used():
        return
    theirs = standard_library("process")
    if theirs is not None:
        theirs.current_process()._name = name


def after_fork() -> None:
    """In a forked child: what is the parent's alone is forgotten, and objects are told of the fork."""
    if not _is_used():
        return
    process, util = standard_library("process"), standard_library("util")
    if process is not None:
        process._children = set()  # type: ignore[attr-defined]
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()


def registered_for_exit() -> None:
    """In a forked child, in which nothing is registered for the exit yet: sees to its farewell."""
    util = standard_library("util") if _is_used() else None
    if util is not None:
        atexit.register(util._exit_function)
