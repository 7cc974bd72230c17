"""A process that a node starts for a client. It does not import the main module of the node, which is Dask's."""

from __future__ import annotations

from .. import popen_spawn_posix
from ..context import SpawnProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..process import BaseProcess

__all__ = ["NodeProcess"]


class NodeProcess(SpawnProcess):
    """A spawned process without a main module: the program's functions come by value, or from other modules."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_spawn_posix.Popen:
        return _Popen(process_obj)


class _Popen(popen_spawn_posix.Popen):
    def _preparation_for(self, process_obj: BaseProcess) -> dict[str, Any]:
        preparation = super()._preparation_for(process_obj)
        for key in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(key, None)
        return preparation
