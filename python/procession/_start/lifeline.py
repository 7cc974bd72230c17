"""Ends daemonic children, and the children of daemonic ones, if their parent is killed.

The parent holds the only writing end of a pipe. The kernel tells each child when that end is closed. The code is in
Rust, in `sys/lifeline`; this module says which processes use it.
"""

from __future__ import annotations

from .._core import lifeline_after_fork as after_fork
from .._core import lifeline_hold as hold
from .._core import lifeline_reader as reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..process import BaseProcess

__all__ = ["after_fork", "hold", "holds", "reader"]


def holds(process_obj: BaseProcess) -> bool:
    """Returns whether a process has to end with its parent: it, or one of its ancestors, is daemonic."""
    return process_obj.daemon or bool(process_obj._config.get("bound"))
