"""Procession without its extension: on macOS, on Windows, on an old kernel, on another Python implementation.

`import procession` then gives the objects of `multiprocessing` under the names of this package, and
`procession.native` is False. Pools and executors are the same classes as on Linux, on an engine in plain Python: so
their options keep their meaning. What cannot be had without the extension raises `NotNativeError` when it is used.

twins       which module stands for which; the finder that the import system asks
contexts    the contexts, with the keyword parameters that multiprocessing does not have
processes   the Process classes; the module `process`
engine      hands tasks to worker processes, one pipe for each
carrier     carries the tasks of one place to its worker, which it replaces when that dies
supervisor  starts the carriers, and calls back
worker      runs in a worker process
core        the functions of the extension that plain Python can replace
errors      the errors; absent: names of which there is nothing here
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["begin", "reason"]

reason: str = ""
"""Why the extension is not used, as a part of a sentence."""

_SERVER: Final = "from multiprocessing.forkserver import main"  # in the command of a fork server
HOW_TO_SILENCE: Final = "PROCESSION_FALLBACK=1 says so without this warning"


def begin(why: str, *, expected: bool) -> None:
    """Makes the modules of this package those of plain Python. Called once, at the beginning of `import procession`.

    Args:
        why: why the extension is not used.
        expected: whether the program may know that; otherwise its first process gets a warning of one sentence.
    """
    global reason  # noqa: PLW0603 (of this process)
    reason = why
    from . import twins

    sys.meta_path.insert(0, twins.finder)
    if not expected:
        _warn()


def _warn() -> None:
    # a child of multiprocessing, whose parent has warned; `parent_process()` does not know its parent yet
    if any(word == "--multiprocessing-fork" or word.startswith(_SERVER) for word in sys.orig_argv):
        return
    import warnings

    text = f"procession works without its extension, with the objects of multiprocessing: {reason} ({HOW_TO_SILENCE})"
    level, frame = 1, sys._getframe()
    while (caller := frame.f_back) is not None and (kind := _kind(caller.f_globals.get("__name__"))) != "program":
        level, frame = level + (kind == "ours"), caller
    warnings.warn(text, RuntimeWarning, stacklevel=level + 1)


def _kind(name: str | None) -> str:
    """Returns whether a frame of that module is ours, of the import system (whose frames `warn` does not count), or of
    the program."""
    package = (name or "").partition(".")[0]
    return {"procession": "ours", "importlib": "import", "_frozen_importlib": "import"}.get(package, "program")


def _for_freezers() -> None:
    """Imports the modules that are imported by name only, for programs that make executables. It is never called."""
    import multiprocessing.connection
    import multiprocessing.dummy.connection
    import multiprocessing.heap
    import multiprocessing.managers
    import multiprocessing.queues
    import multiprocessing.resource_sharer
    import multiprocessing.shared_memory
    import multiprocessing.sharedctypes
    import multiprocessing.spawn
    import multiprocessing.synchronize  # noqa: F401

    from . import (  # noqa: F401  # noqa: F401
        absent,
        carrier,
        contexts,
        core,
        engine,
        errors,
        given_context,
        moves,
        processes,
        reductions,
        relays,
        supervisor,
        worker,
    )
