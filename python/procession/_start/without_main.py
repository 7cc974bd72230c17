"""Spawned children that do not import the main module of the program.

They are for workers of libraries whose users write programs without `if __name__ == "__main__"`. Objects of the main
module must be sent to them by value (`_serialize/without_main.py`).
"""

from __future__ import annotations

from ..context import SpawnContext, SpawnProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..popen_fork import Popen
    from ..process import BaseProcess

__all__ = ["BareSpawnContext", "BareSpawnProcess"]


class BareSpawnProcess(SpawnProcess):
    """A process with a new interpreter, whose `__main__` stays empty."""

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Popen:
        from .. import popen_spawn_posix

        class PopenWithoutMain(popen_spawn_posix.Popen):
            def _preparation_for(self, process_obj: BaseProcess) -> dict[str, Any]:
                preparation = super()._preparation_for(process_obj)
                for key in ("init_main_from_name", "init_main_from_path"):
                    preparation.pop(key, None)
                return preparation

        return PopenWithoutMain(process_obj)


class BareSpawnContext(SpawnContext):
    """A context whose processes are `BareSpawnProcess`."""

    Process = BareSpawnProcess
