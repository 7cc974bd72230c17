"""Big arguments of processes that are not forked: they go through family memory, once for all children that get them.

Data that pickle sends out of band (of numpy arrays), and `bytes` and `bytearray` objects that are themselves an
argument, are copied into a buffer that the children map copy-on-write. Each child has its own value, and unchanged data
is in memory once. `procession._core.Snapshot` is the buffer, which is used again for the next child.

pickle itself never sends bytes out of band. So a first pickle of the same pickler contains the big ones alone, each as
an object that wraps a buffer. Then the pickler's memo is changed: it says that those objects were the bytes. The second
pickle contains the process. Where the bytes occur in it (as an argument, in a list, in an attribute) it refers to the
first pickle, as for every object that occurs twice. One unpickler reads both.
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
    """The buffers that a start message refers to. The child gets them separately."""

    def __init__(self) -> None:
        self._snapshots: list[_core.Snapshot] = []

    def take(self, buffer: PickleBuffer) -> bool:
        """Callback `buffer_callback` of pickle: takes a buffer (False), or leaves it in the pickle (True)."""
        snapshot = _core.Snapshot.of(buffer)
        if snapshot is None:
            return True
        self._snapshots.append(snapshot)
        return False

    def put_down(self) -> None:
        """Drops all buffers, before pickling starts again."""
        self._snapshots.clear()

    def pickled(self) -> bytes:
        """Returns the pickle of the buffers for `pickle.loads`; empty if there are none."""
        from pickle import dumps

        return dumps(self._snapshots) if self._snapshots else b""


def big_ones(process_obj: process.BaseProcess) -> list[bytes | bytearray]:
    """Returns the big bytes objects among the arguments of a process."""
    state = process_obj.__dict__
    args, kwargs = state.get("_args"), state.get("_kwargs")
    if type(args) is not tuple or type(kwargs) is not dict:
        return []
    big = (obj for obj in (*args, *kwargs.values()) if type(obj) in (bytes, bytearray) and len(obj) >= BIG)
    return list({id(obj): obj for obj in big}.values())


def dump(pickler: Any, obj: object, big: list[bytes | bytearray]) -> None:
    """Pickles an object with those bytes as buffers. `load` reads the result."""
    if big:
        lent = [_Lent(each) for each in big]
        pickler.dump(lent)
        original = {id(wrapper): each for wrapper, each in zip(lent, big, strict=True)}
        # each entry keeps its number, since the numbers of later entries follow from the length of the memo
        pickler.memo = {
            id(original.get(key, known)): (number, original.get(key, known))
            for key, (number, known) in pickler.memo.copy().items()
        }
    pickler.dump(obj)


def load(pickled: Any, buffers: Any) -> Any:
    """Returns the object that `dump` has pickled."""
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
