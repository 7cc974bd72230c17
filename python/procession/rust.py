"""Python and Rust in one family: how programs that use the crate `procession` and this package exchange objects.

Both use the same shared objects. A queue carries any object: in Rust it is a `procession::Value`, which has variants
for the built-in types, numpy's arrays and scalars, and common types of the standard library (datetime, Path, Decimal,
UUID). An instance of any other class is a `procession::python::Instance` there, with its attributes. What a Rust
program sends in a value arrives here as the natural object. An array that a Rust program sends arrives as a numpy array
of the same memory (without numpy: as a memoryview), and an array that is sent to a Rust program is not copied out of
the queue either. Shared objects can be anywhere in such an object; `to_bytes` names them for a program in another way.

`Program` starts a Rust program as a member of the family. The documentation of the crate (`procession::python`) says
how a Rust program starts a function of a Python module.
"""

from __future__ import annotations

import os
import struct
import sys

from . import _core, popen_spawn_posix, process, spawn
from ._process import visible_start as _visible_start
from ._start import lifeline as _lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Literal

__all__ = ["Program", "from_bytes", "to_bytes"]

# The tags of values, as in crates/procession-core/src/message.rs.
_NONE, _TRUE, _FALSE, _INT, _FLOAT, _STR, _BYTES, _TUPLE, _LIST, _DICT = range(10)
_SHARED = 12
_DEEPEST = 8

# The kinds of shared objects, as in crates/procession-core/src/family/object.rs.
_LOCK, _QUEUE, _RLOCK, _SEMAPHORE, _EVENT, _BARRIER, _ARRAY = 3, 4, 7, 8, 9, 10, 14


def to_bytes(obj: object) -> bytes:
    """Converts an object to bytes, which a Rust program reads with `procession::Value::from_bytes`.

    The shared objects that the bytes name live as long as this process, since it does not know when they arrive.

    Args:
        obj: None, bool, int, float, str, bytes, tuple, list, dict, and shared objects: `Queue`, `Lock`, `RLock`,
            `Semaphore`, `Event`, `Barrier`, and arrays of `procession.ndarray`; up to 8 levels deep, with up to 255
            elements each.

    Raises:
        TypeError, ValueError, OverflowError: the object contains something else, or too much.
    """
    out = bytearray()
    _write(obj, out, 0)
    return bytes(out)


def from_bytes(data: bytes) -> Any:
    """Returns the object that `procession::Value::to_bytes` has written. ValueError: other bytes."""
    return _core._decode_small(bytes(data))


class Program(process.BaseProcess):
    """A Rust program (of the crate `procession`) that is started as a member of this family.

    Its `main` calls `procession::init()` first, which joins the family; then `procession::given()` returns `given`.
    Otherwise it is a process like any other: `start`, `join`, `exitcode`, `terminate`, `kill`, `sentinel`.
    """

    _start_method = "spawn"

    def __init__(
        self,
        args: Sequence[str | bytes | os.PathLike[str]],
        given: Iterable[Any] = (),
        *,
        name: str | None = None,
        daemon: bool | None = None,
    ) -> None:
        """Prepares the process; `start()` starts it.

        Args:
            args: the file of the program and its command line.
            given: objects that `to_bytes` accepts, at most 255.
            name: for people to read; None: the name of the file.
            daemon: whether the process ends with this one.
        """
        command = [os.fsencode(arg) for arg in args]
        if not command:
            raise ValueError("args begins with the program's file")
        super().__init__(name=name or os.fsdecode(os.path.basename(command[0])), daemon=daemon)
        self._command = command
        self._given = tuple(given)

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> _Popen:
        return _Popen(process_obj)


class _Popen(popen_spawn_posix.Popen):
    def _launch(self, process_obj: process.BaseProcess) -> None:
        assert isinstance(process_obj, Program)
        file, *rest = process_obj._command
        member = _core.Member.reserve(process_obj._name, self.method)
        try:
            bound = _lifeline.holds(process_obj)
            if bound:
                self.duplicate_for_child(_lifeline.reader())
            with member:
                member.load(bytes([bound]) + to_bytes(process_obj._given))
            mark = b"procession:program:%d.%d:" % (member.slot, member.generation)
            _visible_start.audit([file, *rest])
            pid, pidfd = _core.spawn_held(_found(file), [mark + file, *rest], self._fds)
        except BaseException:
            member.discard()
            raise
        self._hold(pid, lambda: popen_spawn_posix.bound(member, pid), pidfd)


def _found(file: bytes) -> bytes:
    """Returns the path of the program: `file` itself if there is a slash in it, else its place on the PATH."""
    if b"/" in file:
        return file
    for folder in os.get_exec_path():
        path = os.path.join(os.fsencode(folder), file)
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(2, os.strerror(2), os.fsdecode(file))


# --- values ---


def _write(obj: object, out: bytearray, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    kind = type(obj)
    if obj is None:
        out.append(_NONE)
    elif obj is True:
        out.append(_TRUE)
    elif obj is False:
        out.append(_FALSE)
    elif kind is int:
        try:
            out += struct.pack("<Bq", _INT, obj)
        except struct.error:
            raise OverflowError("an int of more than 64 bits") from None
    elif kind is float:
        out += struct.pack("<Bd", _FLOAT, obj)
    elif isinstance(obj, str) and kind is str:
        _run(_STR, obj.encode(), out)
    elif isinstance(obj, bytes) and kind is bytes:
        _run(_BYTES, obj, out)
    elif isinstance(obj, tuple | list) and kind in (tuple, list):
        _head(_TUPLE if kind is tuple else _LIST, len(obj), out)
        for element in obj:
            _write(element, out, depth + 1)
    elif isinstance(obj, dict) and kind is dict:
        _head(_DICT, len(obj), out)
        for key, value in obj.items():
            _write(key, out, depth + 1)
            _write(value, out, depth + 1)
    else:
        number, rest = _named(obj)
        out += bytes([_SHARED, number]) + struct.pack("<I", len(rest)) + rest


def _run(tag: int, data: bytes, out: bytearray) -> None:
    out += struct.pack("<BI", tag, len(data)) + data


def _head(tag: int, length: int, out: bytearray) -> None:
    if length > 255:
        raise ValueError(f"{length} elements, more than 255")
    out += bytes([tag, length])


def _named(obj: Any) -> tuple[int, bytes]:
    """Returns the kind of a shared object, and its handle followed by the description of an array."""
    from . import queues, synchronize
    from ._memory.block import _handle_of
    from ._sync.base import ours

    kinds = (
        (queues.Queue, _QUEUE),
        (queues.SimpleQueue, _QUEUE),
        (synchronize.Lock, _LOCK),
        (synchronize.RLock, _RLOCK),
        (synchronize.Semaphore, _SEMAPHORE),
        (synchronize.Event, _EVENT),
        (synchronize.Barrier, _BARRIER),
    )
    for cls, number in kinds:
        if isinstance(obj, cls):
            return number, ours(obj).handle.__get__(obj)
    block = getattr(obj, "_block", None)
    if block is None or not hasattr(obj, "__array_interface__"):
        raise TypeError(f"a Rust program cannot use {type(obj).__module__}.{type(obj).__qualname__} objects")
    if obj._offset() != 0 or not obj.flags.c_contiguous:
        raise ValueError("to_bytes() takes whole arrays in C order, and no views of a part")
    typestr = obj.__array_interface__["typestr"].encode()
    shape = obj.shape
    described = bytes([len(typestr)]) + typestr + bytes([len(shape)]) + struct.pack(f"<{len(shape)}Q", *shape)
    return _ARRAY, _handle_of(block) + described


# --- functions that the decoder calls ---


def _opened(kind: int, handle: bytes, described: tuple[str, list[int]] | None) -> Any:
    """Returns the shared object that a Rust program has named."""
    from . import queues, synchronize

    if kind == _ARRAY and described is not None:
        return _array(handle, *described)
    classes: dict[int, tuple[Any, tuple[Any, ...]]] = {
        _QUEUE: (queues.Queue, ()),
        _LOCK: (synchronize.Lock, (None,)),
        _RLOCK: (synchronize.RLock, (None,)),
        _SEMAPHORE: (synchronize.Semaphore, (None, synchronize.SEM_VALUE_MAX)),
        _EVENT: (synchronize.Event, (None,)),
        _BARRIER: (synchronize.Barrier, (None, None, None)),
    }
    if kind not in classes:
        raise ValueError(f"the message names a shared object of kind {kind}, which this version does not know")
    cls, state = classes[kind]
    obj = cls.__new__(cls)
    obj.__setstate__((handle, *state))
    return obj


def _array(handle: bytes, typestr: str, shape: list[int]) -> Any:
    from ._memory.block import Block, _found

    size = _itemsize(typestr)
    for length in shape:
        size *= length
    block = _found(Block, handle, size)
    try:
        from ._memory.shared_array import _view
    except ImportError:  # no numpy
        return _memoryview(block, typestr, shape)
    import numpy as np

    dtype = np.dtype(typestr)
    strides = np.empty(shape, np.dtype([])).strides if not shape else _strides(shape, dtype.itemsize)
    return _view(block, tuple(shape), dtype, 0, strides, True)


def _strides(shape: list[int], itemsize: int) -> tuple[int, ...]:
    strides = []
    for length in reversed(shape):
        strides.append(itemsize)
        itemsize *= max(length, 1)
    return tuple(reversed(strides))


def _block(data: Any, typestr: str, shape: list[int]) -> Any:
    """Returns the array that a Rust program has sent as a `Block`, which that program may still use: read only."""
    size = _itemsize(typestr)
    for length in shape:
        size *= length
    view = memoryview(data)
    if size > len(view):
        raise ValueError("a block is shorter than its description says")
    view = view[:size]
    try:
        import numpy as np
    except ImportError:
        return _memoryview(view, typestr, shape)
    return np.frombuffer(view, np.dtype(typestr)).reshape(shape)


def _sent_array(data: bytes | tuple[bytes, int], typestr: str, shape: tuple[int, ...], order: Literal["C", "F"]) -> Any:
    """Returns an array that a Rust program has sent in a value. `data` is its contents, or a handle and their length.

    The program may still use that memory, so the array is read only; an array of contents can be written to.
    """
    if isinstance(data, tuple):
        buffer: Any = _core.SharedBytes._attached_read_only(*data)
    else:
        buffer = bytearray(data)
    try:
        import numpy as np
    except ImportError:
        # A memoryview of several dimensions is always in C order.
        return _memoryview(buffer, typestr, list(shape) if order == "C" else [len(buffer) // _itemsize(typestr)])
    return np.frombuffer(buffer, np.dtype(typestr)).reshape(shape, order=order)


def _itemsize(typestr: str) -> int:
    return int(typestr[2:].partition("[")[0]) * (4 if typestr[1] == "U" else 1)


def _memoryview(data: Any, typestr: str, shape: list[int]) -> Any:
    codes = {
        "u1": "B",
        "u2": "H",
        "u4": "I",
        "u8": "Q",
        "i1": "b",
        "i2": "h",
        "i4": "i",
        "i8": "q",
        "f4": "f",
        "f8": "d",
    }
    view: Any = memoryview(data)
    code = codes.get(typestr[1:])
    if code is None:
        return view
    if 0 in shape:
        return view[:0].cast(code)
    return view.cast(code, shape) if len(shape) != 1 else view.cast(code)


# --- a Python child of a Rust program ---


def main(slot: int, generation: int) -> None:
    """Runs a Python child that a Rust program has started; see `procession::python`."""
    import atexit

    from ._start.exit_report import leave_report

    message = spawn.take_seat(slot, generation)
    try:
        process_obj = _child(from_bytes(message))
    except Exception as error:
        leave_report(error)
        raise
    _core.carried_done()
    code = process._others().status_of(process_obj._bootstrap(), 63, 255)
    atexit._run_exitfuncs()  # now, since the interpreter would run them after `declare_exit`
    _core.declare_exit(code)
    sys.exit(code)


def _child(told: tuple[Any, ...]) -> process.BaseProcess:
    from importlib import import_module

    from .context import SpawnProcess

    name, module, function, args, kwargs, path, lifeline, streams, sigint_blocked = told
    _become(lifeline, streams, sigint_blocked)
    sys.path[:0] = path
    target: Any = import_module(module)
    for part in function.split("."):
        target = getattr(target, part)
    process_obj = SpawnProcess(target=target, name=name, args=args, kwargs=_keywords(kwargs))
    process_obj._identity = (1,)
    process_obj._parent_pid, process_obj._parent_name = os.getppid(), "a Rust program"
    process_obj._config["parent_start"] = _core.start_time(os.getppid())
    return process_obj


def _keywords(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(kwargs)


def _become(lifeline: int | None, streams: tuple[int | None, ...], sigint_blocked: bool) -> None:
    from _signal import SIG_BLOCK, SIG_UNBLOCK, SIGINT, pthread_sigmask  # type: ignore[import-not-found]

    pthread_sigmask(SIG_BLOCK if sigint_blocked else SIG_UNBLOCK, (SIGINT,))
    for place, fd in enumerate(streams):
        if fd is not None:
            os.dup2(fd, place)
    if lifeline is not None:
        _lifeline.hold(lifeline)
        process.current_process()._config["bound"] = True
