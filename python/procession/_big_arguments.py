"""Big arguments of processes that are not forked: they go through family memory, once for all who get the same.

What pickle sends out of band (the data of numpy arrays), and `bytes` and `bytearray` objects that are themselves an
argument, are copied into a buffer that the children map copy-on-write: each has a value of its own, and what none of
them changes is in memory once. `procession._core.Snapshot` is the buffer, and finds it again for the next child.
"""

from __future__ import annotations

from pickle import PickleBuffer

from . import _core, process
from ._plain import BIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Baggage", "lend"]


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


def lend(process_obj: process.BaseProcess) -> Callable[[], None]:
    """Has the big bytes among a process's arguments pickle as buffers, until the function is called that this returns.

    A derived class that sees to its pickling itself finds its arguments as they are, and they are sent as they are.
    """
    state, kind = process_obj.__dict__, type(process_obj)
    own = any(
        getattr(kind, name, None) is not getattr(process.BaseProcess, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )
    args, kwargs = state.get("_args"), state.get("_kwargs")
    if own or type(args) is not tuple or type(kwargs) is not dict:
        return lambda: None
    lent: dict[int, _Lent] = {}  # the same object is the same in the child

    def wrapped(obj: Any) -> Any:
        if type(obj) not in (bytes, bytearray) or len(obj) < BIG:
            return obj
        return lent.setdefault(id(obj), _Lent(obj))

    state["_args"] = tuple(map(wrapped, args))
    state["_kwargs"] = {name: wrapped(value) for name, value in kwargs.items()}
    return lambda: state.update(_args=args, _kwargs=kwargs)


class _Lent:
    __slots__ = ("_obj",)

    def __init__(self, obj: bytes | bytearray) -> None:
        self._obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._obj), (PickleBuffer(self._obj),)
