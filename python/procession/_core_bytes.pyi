"""The part of `_core` for bytes in family memory: a stub only, there is no such module."""

from typing import Any, final

@final
class SharedBytes:
    """A buffer of family memory. It is pickled as its handle: the process that unpickles it has the same bytes."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @staticmethod
    def _attached(handle: bytes, len: int, was_read_only: bool = False) -> SharedBytes: ...

@final
class Snapshot:
    """Bytes in a buffer of family memory to which no process writes any more. Unpickles as a `PrivateBytes`."""

    @staticmethod
    def of(buffer: Any) -> Snapshot | None: ...
    @staticmethod
    def _view(handle: bytes, len: int, was_read_only: bool = False) -> PrivateBytes: ...
    def _place(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...

@final
class PrivateBytes:
    """A private view of such a buffer: writable, and other processes do not see what is written."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
