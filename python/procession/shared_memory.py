"""Shared memory with a name, for programs that are no family: POSIX segments, in /dev/shm.

They are those of the standard library: a process that has `multiprocessing.shared_memory` can make them for one that
has this module, and the other way round. Between processes of one family there is something lighter, without a name,
a descriptor or anything to clean up: `RawArray` and `procession.ndarray`.

**Who removes a segment?** Whoever calls `unlink()`. If nobody did when the program that made it has ended, in whatever
way, its watcher does, and says so on standard error. A program that has only attached to a segment removes it only if
nobody else uses it any more. (multiprocessing removes it in any case, and takes it away from those that do.)

**Memory is reserved when a segment is made**: if there is not enough, that is an OSError, and not a SIGBUS in whoever
writes there first.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import sys

from . import process, resource_tracker
from ._memory import segments as _segments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import GenericAlias
    from typing import Any

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = True
_SHM_NAME_PREFIX = "/psm_"  # as the standard library's
_O_CREX = os.O_CREAT | os.O_EXCL


def _make_filename() -> str:
    """A name for a segment that most likely nobody has."""
    return _SHM_NAME_PREFIX + secrets.token_hex(4)


class SharedMemory:
    """A segment of shared memory with a name, which this process has mapped.

    `buf` is its memory. What was made of it (slices, numpy arrays) keeps the mapping alive, also after `close()`; in
    multiprocessing such an array is a crash. If a process is killed, the others notice nothing.
    """

    _name: str
    _size: int
    _mmap: mmap.mmap | None = None
    _buf: memoryview | None = None
    _flags = os.O_RDWR
    _mode = 0o600
    _prepend_leading_slash = True
    _track = True

    def __init__(self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True) -> None:
        """Makes a segment, or attaches to one.

        name: without it, a new segment gets one that is free. create: make it; the name must be free then. size: of a
        new one, in bytes; an existing one has its own. track: whether the segment is to be removed when the program
        that made it has ended and those that use it have gone; False leaves it there until somebody unlinks it.

        FileExistsError, FileNotFoundError: there is one of that name, there is none. ValueError: a size below 1 for a
        new one, a null character in the name, no name. OSError: there is no room, or no /dev/shm.
        """
        if size < 0:
            raise ValueError(f"'size' must be a positive integer, not {size}")
        self._track = track
        if create:
            self._flags = _O_CREX | os.O_RDWR
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero, when a segment is made")
        if name is None and not self._flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")
        fd = _made(self, name, size) if create else _found(self, name)
        try:
            self._size = size if create else os.fstat(fd).st_size
            if self._size == 0:
                raise ValueError(f"the segment {self._name!r} has no bytes: whoever makes it is not done yet")
            # the mapping holds the file, and the lock on it, so no descriptor is needed any more
            fillers = _segments.fill_streams(fd)
            try:
                self._mmap = mmap.mmap(fd, self._size, **_NO_DESCRIPTOR)
            finally:
                for filler in fillers:
                    os.close(filler)
            if track:
                resource_tracker._track_segment(self._name, create)
        except BaseException:
            if create:
                _segments.unlink(self._name)
            raise
        finally:
            os.close(fd)
        self._buf = memoryview(self._mmap)

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._track:
            return self.__class__, (self.name, False, self.size)
        return _untracked, (self.__class__, self.name)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview:
        """The memory, for reading and writing. None once this was closed."""
        return self._buf  # type: ignore[return-value]  # as annotated in typeshed

    @property
    def name(self) -> str:
        """The name by which others attach to the segment."""
        return self._name[1:] if self._prepend_leading_slash and self._name.startswith("/") else self._name

    @property
    def size(self) -> int:
        """In bytes. Some systems round it up, so it may be more than was asked for."""
        return self._size

    def close(self) -> None:
        """This object uses the segment no more. The memory is unmapped as soon as no view of it is left either."""
        self._buf = self._mmap = None

    def unlink(self) -> None:
        """Removes the segment: its name is gone at once, its memory when nobody uses it any more.

        To be called once, by anybody who has it. FileNotFoundError: it was removed already.
        """
        _segments.unlink(self._name)
        if self._track:
            resource_tracker.unregister(self._name, "shared_memory")


def _made(self: SharedMemory, name: str | None, size: int) -> int:
    while True:
        self._name = _make_filename() if name is None else _with_slash(self, name)
        try:
            return _segments.create(self._name, size, self._flags, self._mode, self._track)
        except FileExistsError:
            if name is not None:
                raise


def _found(self: SharedMemory, name: str | None) -> int:
    assert name is not None
    self._name = _with_slash(self, name)
    return _segments.attach(self._name, self._flags, self._mode)


def _with_slash(self: SharedMemory, name: str) -> str:
    return f"/{name}" if self._prepend_leading_slash else name


def _untracked(cls: type[SharedMemory], name: str) -> SharedMemory:
    return cls(name, track=False)


# from 3.13 on a mapping need not have a descriptor of its own
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


_CODES: dict[type, int] = {str: 1, bytes: 2, type(None): 3}
_FORMATS: dict[type, str] = {int: "q", float: "d", bool: "xxxxxxx?", type(None): "xxxxxx?x"}
_ALIGNMENT = 8
_LONGEST = 9_999_999 // _ALIGNMENT * _ALIGNMENT  # what a format of 8 characters can say


class ShareableList:
    """A list of fixed length in shared memory with a name. Its items: int (64 bits), float, bool, str, bytes and None.

    An item can be replaced by one of another type, and by a str or bytes of as many bytes as there is room for: the
    length of the first one, rounded up to a multiple of eight. Reading and writing an item takes
    no lock.

    The layout is that of `multiprocessing.shared_memory.ShareableList`, which loses zeros at the end of str and bytes.
    Here they are kept: the struct format of such an item has a space at its end, which struct ignores and which has the
    standard library use the whole room again when it replaces the item.
    """

    # Offset 0: how many items there are, n. Then n + 1 offsets of the items, counted from the end of this table; the
    # last one is that of the struct formats: 8 bytes each. Then n codes of a byte. All numbers have 8 bytes.

    shm: SharedMemory
    _list_len: int
    _allocated_offsets: list[int]

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        """sequence: the items of a new list. name: of its segment, or without a sequence, of the list to attach to.

        TypeError, ValueError: an item cannot be stored. Otherwise as `SharedMemory`.
        """
        if name is not None and sequence is None:
            self.shm = SharedMemory(name)
            (self._list_len,) = struct.unpack_from("q", self.shm.buf, 0)
            self._allocated_offsets = list(struct.unpack_from(f"{self._list_len + 1}q", self.shm.buf, 8))
            return
        items = list(sequence or ())
        self._list_len = len(items)
        self._allocated_offsets = [0]
        for item in items:
            self._allocated_offsets.append(self._allocated_offsets[-1] + _room_for(item))
        rooms = [_room(self, i) for i in range(len(items))]
        packed = [_packed(item, room) for item, room in zip(items, rooms, strict=True)]
        self.shm = SharedMemory(name, create=True, size=self._offset_back_transform_codes + max(self._list_len, 0))
        struct.pack_into(f"{self._list_len + 2}q", self.shm.buf, 0, self._list_len, *self._allocated_offsets)
        for position, (format, code, data) in enumerate(packed):
            _store(self, position, format, code, data)

    def _get_packing_format(self, position: int) -> str:
        """The struct format of an item."""
        index = _index(self, position, "Requested position out of range.")
        (format,) = struct.unpack_from("8s", self.shm.buf, self._offset_packing_formats + 8 * index)
        return str(format.rstrip(b"\0").decode())

    def __getitem__(self, position: int) -> Any:
        index = _index(self, position, "index out of range")
        format = self._get_packing_format(index)
        (value,) = struct.unpack_from(format, self.shm.buf, self._offset_data_start + self._allocated_offsets[index])
        (code,) = struct.unpack_from("b", self.shm.buf, self._offset_back_transform_codes + index)
        if code in (1, 2):
            exact = value if format.endswith(" ") else value.rstrip(b"\0")
            return exact.decode() if code == 1 else exact
        return None if code == 3 else value

    def __setitem__(self, position: int, value: Any) -> None:
        index = _index(self, position, "assignment index out of range")
        _store(self, index, *_packed(value, _room(self, index)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.__class__, self.shm.name)

    def __len__(self) -> int:
        return self._list_len

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """The struct formats of all items."""
        return "".join(map(self._get_packing_format, range(self._list_len)))

    @property
    def _offset_data_start(self) -> int:
        return 8 * (self._list_len + 2)

    @property
    def _offset_packing_formats(self) -> int:
        return self._offset_data_start + self._allocated_offsets[-1]

    @property
    def _offset_back_transform_codes(self) -> int:
        return self._offset_packing_formats + 8 * self._list_len

    def count(self, value: Any) -> int:
        """How many items equal the value."""
        return sum(value == item for item in self)

    def index(self, value: Any) -> int:
        """Where the first item is that equals the value. ValueError: none does."""
        for position, item in enumerate(self):
            if value == item:
                return position
        raise ValueError(f"{value!r} is not in this list")

    @classmethod
    def __class_getitem__(cls, item: Any) -> GenericAlias:
        from types import GenericAlias

        return GenericAlias(cls, item)

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[Any]: ...


def _room_for(item: Any) -> int:
    if isinstance(item, str | bytes):
        # the standard library counts the characters, which for a str may be too few
        least = len(item.encode() if isinstance(item, str) else item)
        return _ALIGNMENT * max(len(item) // _ALIGNMENT + 1, -(-least // _ALIGNMENT))
    return _ALIGNMENT


def _room(self: ShareableList, position: int) -> int:
    return self._allocated_offsets[position + 1] - self._allocated_offsets[position]


def _packed(item: Any, room: int) -> tuple[str, int, bytes]:
    """The struct format of an item, the code of its type, and its bytes, as many as it has room for."""
    if not isinstance(item, str | bytes):
        try:
            format = _FORMATS[type(item)]
        except KeyError:
            raise TypeError(f"a ShareableList cannot store a {type(item).__name__}: {item!r}") from None
        return format, _CODES.get(type(item), 0), struct.pack(format, item).ljust(room, b"\0")
    data = item.encode() if isinstance(item, str) else bytes(item)
    if len(data) > room:
        raise ValueError(f"bytes/str item exceeds available storage: {len(data)} bytes, and {room} is all there is")
    format = f"{room}s"
    if data.endswith(b"\0"):
        format = f"{len(data)}s "
    if room > _LONGEST or len(format) > 8:
        raise ValueError(
            f"a str or bytes of {len(data)} bytes is too long for a ShareableList (zeros at its end count)"
        )
    return format, 1 if isinstance(item, str) else 2, data.ljust(room, b"\0")


def _store(self: ShareableList, position: int, format: str, code: int, data: bytes) -> None:
    buf = self.shm.buf
    start = self._offset_data_start + self._allocated_offsets[position]
    buf[start : start + len(data)] = data
    struct.pack_into("8s", buf, self._offset_packing_formats + 8 * position, format.encode())
    struct.pack_into("b", buf, self._offset_back_transform_codes + position, code)


def _index(self: ShareableList, position: int, message: str) -> int:
    index = position + self._list_len if position < 0 else position
    if not 0 <= index < self._list_len:
        raise IndexError(message)
    return index


def _named(cls: type[ShareableList], name: str) -> ShareableList:
    return cls(name=name)


if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
