"""Pickles objects for another machine.

Functions and classes of the main module go by value, since nodes do not have that module. Objects of the family (locks,
queues, shared memory) mean nothing on another machine: they are refused where they are pickled.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from types import FunctionType

from .. import _alias, reduction
from .._serialize import by_value
from .._serialize.move import move
from .main_globals import with_kept
from .refusal import Refused, is_of_family, locate, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["dumps", "dumps_whole", "loads", "reducers"]


def dumps(obj: Any, table: dict[Any, Any] | None = None) -> tuple[bytes, list[memoryview]]:
    """Pickles an object. Returns the pickle and its big buffers (PEP 574), which `loads` takes.

    Args:
        table: what `reducers` returns, for a caller that pickles many objects at a time.

    Raises:
        TypeError: the object contains one of the family, which is of no use on another machine.
        Exception: what pickling raises.
    """
    buffers: list[Any] = []
    pickled = _dumps(obj, buffers, table)
    return pickled, [buffer.raw() for buffer in buffers]


def dumps_whole(obj: Any) -> bytes:
    """Pickles an object, with its buffers inside. Otherwise as `dumps`."""
    whole = _dumps(obj, None)
    # `multiprocessing` in the program's functions means this package there, too
    return pickle.dumps(_Aliased(whole)) if _alias.installed() else whole


class _Aliased:
    """A pickle of a program in which `multiprocessing` means this package."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __reduce__(self) -> Any:
        return _load_aliased, (self._pickled,)


def _load_aliased(pickled: bytes) -> Any:
    _alias.install()
    return loads(pickled)


def _dumps(obj: Any, buffers: list[Any] | None, table: dict[Any, Any] | None = None) -> bytes:
    keep = None if buffers is None else buffers.append
    try:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 5, buffer_callback=keep)
        pickler.dispatch_table = reducers() if table is None else table
        pickler.dump(obj)
        pickled = file.getvalue()
    except Exception as error:
        if isinstance(error, Refused):
            locate(error, obj)
            raise
        # RuntimeError: an object of the standard library's multiprocessing, which the second look names
        if not by_value.helps(error) and not isinstance(error, RuntimeError):
            raise
        first: Exception | None = error
    else:
        # Either word occurs in a plain pickle that needs a second look: it names an object of the main module (also as
        # `__mp_main__`), or one of ours.
        if b"main__" not in pickled and b"procession" not in pickled:
            return pickled
        first = None
    if buffers:
        buffers.clear()
    try:
        file = io.BytesIO()
        _careful_class()(file, keep).dump(obj)
    except Exception as second:
        if first is not None and (type(second), second.args) == (type(first), first.args):
            second = first
        from .._serialize.explain import explain_pickling

        if isinstance(second, Refused):
            locate(second, obj)
        else:
            explain_pickling(second, obj)
        raise second from None
    finally:
        first = None  # its traceback refers to this frame
    return file.getvalue()


def loads(pickled: Any, *, buffers: Iterable[Any] | None = None) -> Any:
    """Unpickles an object that `dumps` or `dumps_whole` has pickled."""
    return pickle.loads(pickled, buffers=buffers)


def reducers() -> dict[Any, Any]:
    """Returns the reducers for plain pickle: those that were registered, that of `move`, and refusals."""
    table: dict[Any, Any] = {**copyreg.dispatch_table, **reduction._reducers(), move: _unmoved}
    for name in ("procession.connection", "multiprocessing.connection"):
        connection = sys.modules.get(name)
        if connection is not None:  # pickling one starts a server for its descriptor
            table[connection.Connection] = refuse
    socket = sys.modules.get("socket")
    if socket is not None:
        table[socket.socket] = refuse
    return table


def _careful_class() -> Any:
    """Returns the class of the pickler for the second look, made at the first call: it imports cloudpickle."""
    global _made  # noqa: PLW0603 (of this process)
    if _made is None:
        _made = _make_careful_class()
    return _made


def _make_careful_class() -> Any:
    base = by_value._pickler_class()

    def reducer_override(self: Any, obj: Any) -> Any:
        if isinstance(obj, type):
            if "_procession_general" in obj.__dict__:  # a class of this program's cluster
                return obj.__dict__["_procession_general"]()
        elif is_of_family(obj):
            refuse(obj)
        elif hasattr(obj, "_procession_remote"):
            return _proxy(obj)
        elif type(obj) is move:
            return _unmoved(obj)
        reduced = base.reducer_override(self, obj)
        return with_kept(obj, reduced) if isinstance(obj, FunctionType) else reduced

    return type("Careful", (base,), {"_main_is_there": False, "reducer_override": reducer_override})


def _proxy(obj: Any) -> Any:
    from .._manager.proxies import BaseProxy
    from .manager import with_key

    return with_key(obj) if isinstance(obj, BaseProxy) else NotImplemented


def _unmoved(obj: Any) -> Any:
    """Reduces a `move`: no memory is shared with another machine, so its object is sent as any other."""
    return _same, (obj._obj,)


def _same(obj: Any) -> Any:
    return obj


_made: Any = None
