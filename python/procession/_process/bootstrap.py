"""What the beginning of a child needs of other modules, in one place, so that it is there before the child is.

In a forked child the first look at anything copies the page that it is on, for the reference count's sake. An `import`
statement looks at some thirty, which is more than the rest of a beginning does. So `process`, which all these modules
import and which can import none of them, finds them here.
"""

from __future__ import annotations

from .._core import describe, release_signals
from ..context import _force_start_method
from ..util import _close_stdin, _finalizer_registry, _flush_std_streams, _run_after_forkers
from . import log
from .stdlib_compat import after_fork, take_name

__all__ = [
    "_close_stdin",
    "_finalizer_registry",
    "_flush_std_streams",
    "_force_start_method",
    "_run_after_forkers",
    "after_fork",
    "describe",
    "log",
    "release_signals",
    "take_name",
]
