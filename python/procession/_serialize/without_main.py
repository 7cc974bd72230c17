"""Pickles objects for processes of this family that do not have the main module of the program.

The pickle is made inside of another one, that of a queue or pool, which takes its buffers and counts its references:
`ByValue` is the wrapper that is sent, and the object itself is what arrives.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from types import FunctionType

from .. import reduction
from . import by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Table = dict[Any, Callable[[Any], Any]]
    # by the id of a function or class: the object itself, and its pickle; None if it must be pickled each time
    Known = dict[int, tuple[Any, bytes | None]]

__all__ = ["ByValue", "reducers"]


def reducers() -> Table:
    """Returns the reducers of copyreg and those that the program has registered, for callers that pickle often."""
    return {**copyreg.dispatch_table, **reduction._reducers()}


class ByValue:
    """Sends an object; functions and classes of the main module go by value. It arrives as the object itself."""

    __slots__ = ("_known", "_obj", "_table")

    def __init__(self, obj: Any, table: Table | None = None, known: Known | None = None) -> None:
        """Wraps an object.

        Args:
            table: what `reducers` returns, perhaps with additions.
            known: keeps pickles of functions and classes of the main module for other objects. It is empty at first.
        """
        self._obj = obj
        self._table = reducers() if table is None else table
        self._known = known

    def __reduce__(self) -> Any:
        pickled, buffers = _dumps(self._obj, self._table, self._known)
        return _loads, (pickled, *buffers)


def _loads(pickled: bytes, *buffers: Any) -> Any:
    return pickle.loads(pickled, buffers=buffers)


def _dumps(obj: Any, table: Table, known: Known | None) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Pickles an object. Returns the pickle and its buffers (PEP 574)."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    first: Exception | None = None
    try:
        pickler = pickle.Pickler(file, 5, buffer_callback=buffers.append)
        pickler.dispatch_table = table
        pickler.dump(obj)
    except Exception as error:
        if not by_value.helps(error):
            raise
        first = error
    else:
        pickled = file.getvalue()
        if b"main__" not in pickled:  # names of the main module; children call it `__mp_main__`
            return pickled, buffers
    buffers.clear()
    file = io.BytesIO()
    try:
        _pickler_class()(file, buffers.append, table, known).dump(obj)
    except Exception as second:
        if first is not None and (isinstance(second, ImportError) or second.args == first.args):
            second = first
        raise second from None
    finally:
        first = None  # its traceback refers to this frame
    return file.getvalue(), buffers


def _pickler_class() -> Any:
    """Returns the class of the pickler, made at the first call: it imports cloudpickle."""
    global _made  # noqa: PLW0603 (of this process)
    if _made is None:
        _made = _make_pickler_class()
    return _made


def _make_pickler_class() -> Any:
    base = by_value._pickler_class()

    class PicklerWithoutMain(base):  # type: ignore[misc, valid-type]  # it has no types
        _main_is_there = False

        def __init__(self, file: Any, buffer_callback: Any, table: Table, known: Known | None) -> None:
            super().__init__(file, buffer_callback)
            self.dispatch_table.update(table)  # the pickler reads this dictionary, not a copy
            self._known = known

        def reducer_override(self, obj: Any) -> Any:
            known = self._known
            if known is None or not isinstance(obj, type | FunctionType) or by_value._name_in_main(obj) is None:
                return super().reducer_override(obj)
            found = known.get(id(obj))
            if found is None:
                found = known[id(obj)] = obj, _reusable(obj)
            return super().reducer_override(obj) if found[1] is None else (_loads, (found[1],))

    return PicklerWithoutMain


def _reusable(obj: Any) -> bytes | None:
    """Pickles a function or class once for all; None: its pickle refers to objects of this package.

    These are counted when they are pickled, for one message.
    """
    file = io.BytesIO()
    _pickler_class()(file, None, reducers(), None).dump(obj)
    pickled = file.getvalue()
    return None if pickled.count(b"procession") > pickled.count(b"procession._serialize.by_value") else pickled


_made: Any = None
