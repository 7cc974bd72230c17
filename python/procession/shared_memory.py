"""Shared memory with a name, for programs that are not of one family: POSIX segments, in /dev/shm.

They are the segments of the standard library: one program may use `multiprocessing.shared_memory` and the other this
module. Processes of one family have simpler means without a name, a descriptor or anything to clean up: `RawArray` and
`procession.ndarray`.

**Who removes a segment?** The program that calls `unlink()`. If the program that made the segment has ended without
that, in any way, its resource tracker removes it and reports that on standard error. A program that has only attached
to a segment removes it only if no other process uses it any more. (multiprocessing removes it in any case, also while
other programs use it.)

**Memory is reserved when a segment is made.** If there is not enough, that raises OSError; otherwise the first process
that writes there would get SIGBUS.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import sys

from . import _core, process, resource_tracker
from ._memory import segments as _segments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import GenericAlias
    from typing import Any

__all__ = ["ShareableList", "SharedMemory"]

_USE_POSIX = True
_SHM_NAME_PREFIX = "/psm_"  # as in the standard library
_O_CREX = os.O_CREAT | os.O_EXCL


def _make_filename() -> str:
    """Returns a random name for a segment, which is most likely free."""
    return _SHM_NAME_PREFIX + secrets.token_hex(4)


class SharedMemory:
    """A segment of shared memory with a name, which this process has mapped.

    `buf` is its memory. Objects that use it (slices, numpy arrays) keep the mapping alive, also after `close()`; in
    multiprocessing such an array is a crash. If a process is killed, the others can go on.

    Example:
        ```python
        from procession.shared_memory import SharedMemory

        segment = SharedMemory(create=True, size=100)
        segment.buf[:5] = b"hello"
        other = SharedMemory(segment.name)  # in any process of this machine
        print(bytes(other.buf[:5]))  # b'hello'
        segment.unlink()
        ```
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

        Args:
            name: the name of the segment. None: a new segment gets a free one.
            create: make the segment. The name must be free.
            size: number of bytes of a new segment. An existing one has its own.
            track: remove the segment when the program that made it has ended and no process uses it any more. False:
                the segment stays until a program unlinks it.

        Raises:
            FileExistsError: there is a segment with this name already.
            FileNotFoundError: there is no segment with this name.
            ValueError: `size` is below 1 for a new segment; `name` is missing or has a null character.
            OSError: there is not enough memory, or no /dev/shm.
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
        try:
            _open(self, name, create, size)
        except OSError as error:
            _core.explain_limit(error, "making a segment" if create else "opening a segment")
            raise

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
        """The memory, for reading and writing. None after `close()`."""
        return self._buf  # type: ignore[return-value]  # as annotated in typeshed

    @property
    def name(self) -> str:
        """The name with which others attach to the segment."""
        return self._name[1:] if self._prepend_leading_slash and self._name.startswith("/") else self._name

    @property
    def size(self) -> int:
        """The size in bytes. Some systems round it up, so it may be more than was asked for."""
        return self._size

    def close(self) -> None:
        """Closes this object. The memory is unmapped as soon as no view of it is left."""
        self._buf = self._mmap = None

    def unlink(self) -> None:
        """Removes the segment: its name at once, its memory when no process uses it any more.

        One program calls it, once. FileNotFoundError: the segment was removed before.
        """
        _segments.unlink(self._name)
        if self._track:
            resource_tracker.unregister(self._name, "shared_memory")


def _open(self: SharedMemory, name: str | None, create: bool, size: int) -> None:
    """Makes or opens the segment and maps it."""
    fd = _made(self, name, size) if create else _found(self, name)
    try:
        self._size = size if create else os.fstat(fd).st_size
        if self._size == 0:
            raise ValueError(f"the segment {self._name!r} has no bytes: its maker has not finished yet")
        # the mapping keeps the file and the lock on it, so the descriptor is not needed any more
        fillers = _segments.fill_streams(fd)
        try:
            self._mmap = mmap.mmap(fd, self._size, **_NO_DESCRIPTOR)
        finally:
            for filler in fillers:
                os.close(filler)
        if self._track:
            resource_tracker._track_segment(self._name, create)
    except BaseException:
        if create:
            _segments.unlink(self._name)
        raise
    finally:
        os.close(fd)
    self._buf = memoryview(self._mmap)


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


# from Python 3.13 on a mapping does not need its own descriptor
_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


_CODES: dict[type, int] = {str: 1, bytes: 2, type(None): 3}
_FORMATS: dict[type, str] = {int: "q", float: "d", bool: "xxxxxxx?", type(None): "xxxxxx?x"}
_ALIGNMENT = 8
_LONGEST = 9_999_999 // _ALIGNMENT * _ALIGNMENT  # the greatest size that a format of 8 characters can have


class ShareableList:
    """A list of fixed length in shared memory with a name. Its items: int (64 bits), float, bool, str, bytes and None.

    An item can be replaced by one of another type. A str or bytes may have as many bytes as there is room for: the
    length of the first item, rounded up to a multiple of eight. Reading and writing an item takes no lock.

    The layout is that of `multiprocessing.shared_memory.ShareableList`, which loses zeros at the end of str and bytes.
    Here they are kept: the struct format of such an item ends with a space. `struct` ignores it, and the standard
    library uses the whole room again when it replaces the item.

    Example:
        ```python
        from procession.shared_memory import ShareableList

        numbers = ShareableList([1, 2.5, "three"])
        same = ShareableList(name=numbers.shm.name)  # in any process of this machine
        same[0] = 10
        print(list(numbers))  # [10, 2.5, 'three']
        numbers.shm.unlink()
        ```
    """

    # Layout: at offset 0 the number of items, n. Then n + 1 offsets, which count from the end of this table: those of
    # the items, and that of the struct formats, of 8 bytes each. After the formats n type codes of one byte. All other
    # numbers have 8 bytes.

    shm: SharedMemory
    _list_len: int
    _allocated_offsets: list[int]

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        """Makes a list, or attaches to one.

        Args:
            sequence: the items of a new list; None: attach to the list of that name.
            name: the name of the segment.

        Raises:
            TypeError, ValueError: an item cannot be stored. Also what `SharedMemory` raises.
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
        """Returns the struct format of an item."""
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
        """Returns how many items equal the value."""
        return sum(value == item for item in self)

    def index(self, value: Any) -> int:
        """Returns the position of the first item that equals the value. ValueError: none does."""
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
        # the standard library counts characters, but a str may have more bytes
        least = len(item.encode() if isinstance(item, str) else item)
        return _ALIGNMENT * max(len(item) // _ALIGNMENT + 1, -(-least // _ALIGNMENT))
    return _ALIGNMENT


def _room(self: ShareableList, position: int) -> int:
    return self._allocated_offsets[position + 1] - self._allocated_offsets[position]


def _packed(item: Any, room: int) -> tuple[str, int, bytes]:
    """Returns the struct format of an item, the code of its type, and its bytes, padded to `room`."""
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
