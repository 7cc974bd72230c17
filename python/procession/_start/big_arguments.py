"""Big arguments of processes that are not forked: they go through family memory, once for all who get the same.

What pickle sends out of band (the data of numpy arrays), and `bytes` and `bytearray` objects that are themselves an
argument, are copied into a buffer that the children map copy-on-write: each has a value of its own, and what none of
them changes is in memory once. `procession._core.Snapshot` is the buffer, and finds it again for the next child.

pickle never sends bytes out of band by itself. So where there are big ones, a first pickle of the same pickler holds
them alone, as what wraps a buffer; then the pickler's memo is told that those were the bytes. The second pickle holds
the process, and wherever the bytes occur in it (as an argument, in a list, in an attribute) it refers to the first, as
it does to whatever occurs twice. One unpickler reads both.
"""

from __future__ import annotations

from pickle import PickleBuffer

from .. import _core, process
from .plain_message import BIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Baggage", "big_ones", "dump", "load"]

try:
    from _pickle import Unpickler
except ImportError:
    from pickle import Unpickler


class Baggage:
    """What a start message leaves out, and the child is handed beside it."""

    def __init__(self) -> None:
        self._snapshots: list[_core.Snapshot] = []

    def take(self, buffer: PickleBuffer) -> bool:
        """For pickle's `buffer_callback`: takes a buffer (false), or leaves it in the pickle (true)."""
        snapshot = _core.Snapshot.of(buffer)
        if snapshot is None:
            return True
        self._snapshots.append(snapshot)
        return False

    def put_down(self) -> None:
        """Pickling begins anew."""
        self._snapshots.clear()

    def pickled(self) -> bytes:
        """What unpickles as the buffers for `pickle.loads`; empty if there are none."""
        from pickle import dumps

        return dumps(self._snapshots) if self._snapshots else b""


def big_ones(process_obj: process.BaseProcess) -> list[bytes | bytearray]:
    """The big bytes among a process's arguments."""
    state = process_obj.__dict__
    args, kwargs = state.get("_args"), state.get("_kwargs")
    if type(args) is not tuple or type(kwargs) is not dict:
        return []
    big = (obj for obj in (*args, *kwargs.values()) if type(obj) in (bytes, bytearray) and len(obj) >= BIG)
    return list({id(obj): obj for obj in big}.values())


def dump(pickler: Any, obj: object, big: list[bytes | bytearray]) -> None:
    """Has the pickler dump an object, with those bytes as buffers. What it writes is for `load`."""
    if big:
        lent = [_Lent(each) for each in big]
        pickler.dump(lent)
        original = {id(wrapper): each for wrapper, each in zip(lent, big, strict=True)}
        # one entry for another: the numbers of later entries follow from how many there are
        pickler.memo = {
            id(original.get(key, known)): (number, original.get(key, known))
            for key, (number, known) in pickler.memo.copy().items()
        }
    pickler.dump(obj)


def load(pickled: Any, buffers: Any) -> Any:
    """What `dump` dumped."""
    from io import BytesIO

    file = BytesIO(pickled)
    unpickler = Unpickler(file, buffers=buffers)
    loaded = unpickler.load()
    return unpickler.load() if file.tell() < len(pickled) else loaded


class _Lent:
    __slots__ = ("_obj",)

    def __init__(self, obj: bytes | bytearray) -> None:
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._obj), (PickleBuffer(self._obj),)
