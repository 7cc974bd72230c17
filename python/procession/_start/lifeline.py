"""What keeps daemonic children, and the children of daemonic ones, from outliving a parent that was killed.

The parent holds the only writing end of a pipe, of whose end the kernel tells each child. All of it is in Rust, in
`sys/lifeline`; here is who hangs on it.
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
    """Whether a process's life is to be bound to its parent's: it is daemonic, or somebody above it is."""
    return process_obj.daemon or bool(process_obj._config.get("bound"))
