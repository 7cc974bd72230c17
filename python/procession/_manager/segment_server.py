"""The server of a `SharedMemoryManager`: it knows the segments to remove at the end."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from .. import shared_memory, util
from .server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedMemoryServer"]


class SharedMemoryServer(Server):
    """Keeps a list of named segments, which are removed when it ends."""

    __module__ = "procession.managers"  # the public name

    public: ClassVar[list[str]] = [*Server.public, "track_segment", "release_segment", "list_segments"]

    def __init__(self, *args: Any, **kwds: Any) -> None:
        super().__init__(*args, **kwds)
        self._segments: set[str] = set()

    def track_segment(self, c: Any, segment_name: str) -> None:
        """Adds a segment, which is removed when the server ends."""
        self._segments.add(segment_name)

    def release_segment(self, c: Any, segment_name: str) -> None:
        """Removes a segment now."""
        self._segments.discard(segment_name)
        with suppress(FileNotFoundError):
            segment = shared_memory.SharedMemory(segment_name)
            segment.close()
            segment.unlink()

    def list_segments(self, c: Any) -> list[str]:
        """Returns the names of the segments."""
        return sorted(self._segments)

    def _stop(self) -> None:
        for name in self.list_segments(None):
            try:
                self.release_segment(None, name)
            except OSError as error:
                util.info("the segment %s could not be removed: %s", name, error)
        super()._stop()
