"""Pickles by value, with cloudpickle, what pickle cannot send by name.

pickle sends a function or class as the name with which the receiver finds it. That fails for lambdas, for objects that
are defined inside a function, and for those of a main module that no child can import: of a program that was read from
standard input or given with -c, of a notebook, of an interactive session, of the `__main__` of a package or zip file.

Plain pickle is tried first, since it is several times faster. cloudpickle is imported only if that fails, or if its
result names a main module that the receiver does not have. Also then, names that the receiver can resolve go by name.
A *forked* receiver does have that main module, so the receiver decides: an object that comes by value brings its name,
and if the same run of the program has an object under that name, the receiver uses that one. So `isinstance` works, and
a function uses the right globals.
"""

from __future__ import annotations

import io
import sys

from .. import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["dumps_by_value", "helps", "main_is_found", "needed"]

MAIN = ("__main__", "__mp_main__")
NAMED = b"__main__"  # occurs in a pickle that names an object of the main module


def main_is_found() -> bool:
    """Returns whether children that are not forked import the main module of this process, and so know its names."""
    from .._process import main_script

    # objects that are typed after a script has run are not in its file
    is_interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return not is_interactive and main_script.is_imported(main_script.main_module())


def needed(pickled: Any) -> bool:
    """Returns whether a result of plain pickle (bytes, bytearray) has names that only forked receivers find."""
    return NAMED in pickled and not main_is_found()


def helps(error: BaseException) -> bool:
    """Returns whether pickling by value may avoid this error of plain pickle."""
    from pickle import PicklingError

    return isinstance(error, (PicklingError, AttributeError, TypeError))


def dumps_by_value(
    obj: Any,
    *,
    buffer_callback: Callable[[Any], Any] | None = None,
    dump: Callable[[Any, Any], object] | None = None,
) -> bytes:
    """Pickles an object (protocol 5). Functions and classes that the receiver may not find by name go by value.

    Reducers that were registered with `ForkingPickler` are used. Plain `pickle.loads` reads the result in a process
    that can import this package and cloudpickle.

    Args:
        buffer_callback: as for `pickle.Pickler`.
        dump: called as dump(pickler, obj) instead of the method of the pickler.

    Raises:
        Exception: what pickling raises: an open file or a thread's lock cannot be pickled by value either.
        ImportError: there is no cloudpickle.
    """
    file = io.BytesIO()
    pickler = _pickler_class()(file, buffer_callback)
    if dump is None:
        pickler.dump(obj)
    else:
        dump(pickler, obj)
    return file.getvalue()


def dumps(
    obj: Any,
    plain: Callable[[Any], bytes],
    again: Callable[[], object] | None = None,
    buffer_callback: Callable[[Any], Any] | None = None,
    dump: Callable[[Any, Any], object] | None = None,
) -> bytes:
    """Pickles an object with plain(obj), or by value if that is not enough. again: called before the second attempt.
    buffer_callback, dump: as for `dumps_by_value`.

    If both fail, the second error is raised: it is about the part that cannot be sent at all, and not about the lambda
    that contains it.
    """
    try:
        pickled = plain(obj)
    except Exception as error:
        if not helps(error):
            raise
        first: Exception = error
    else:
        if not needed(pickled):
            return pickled
        if again is not None:
            again()
        try:
            return dumps_by_value(obj, buffer_callback=buffer_callback, dump=dump)
        except Exception:
            # for example a global that cannot be pickled; forked receivers find the object by its name
            if again is None:
                return pickled
            again()
            return plain(obj)
    if again is not None:
        again()
    try:
        return dumps_by_value(obj, buffer_callback=buffer_callback, dump=dump)
    except ImportError:
        raise first from None
    except Exception as second:
        if (type(second), second.args) == (type(first), first.args):
            raise first from None
        raise second from None
    finally:
        del first  # its traceback refers to this frame, and so to everything that the callers' frames refer to


# --- pickling ---


def _pickler_class() -> Any:
    """Returns the class of the pickler, made at the first call: importing cloudpickle takes 20 ms."""
    global _made  # noqa: PLW0603 (of this process)
    if _made is None:
        _made = _make_pickler_class()
    return _made


def _make_pickler_class() -> Any:
    import copyreg
    from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MappingProxyType, MethodType, ModuleType

    import cloudpickle  # type: ignore[import-untyped]

    from .. import reduction

    by_value = cloudpickle.Pickler._dispatch_table if hasattr(cloudpickle.Pickler, "_dispatch_table") else None
    # Parts of functions and classes. cloudpickle can pickle other objects that arrive as something else (an open file
    # as its contents, a memoryview as bytes). Here they are an error, as with plain pickle.
    parts = (CellType, CodeType, GetSetDescriptorType, MappingProxyType, MethodType, ModuleType)
    decorators = (classmethod, staticmethod, property)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        # False in a subclass for receivers that do not have the main module in any case
        _main_is_there = True

        def __init__(self, file: Any, buffer_callback: Callable[[Any], Any] | None) -> None:
            theirs = cloudpickle.Pickler.dispatch_table if by_value is None else by_value
            chosen = {
                kind: reduce
                for kind, reduce in theirs.items()
                if kind in parts or kind in decorators or kind.__module__ in ("abc", "typing", "dataclasses")
            }
            # before the base class reads it
            self._registered = reduction._reducers()
            self.dispatch_table = {**chosen, **copyreg.dispatch_table, **self._registered}
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) in self._registered:
                return NotImplemented
            is_class = isinstance(obj, type)
            if not is_class and not isinstance(obj, FunctionType):
                return NotImplemented
            name = _name_in_main(obj)
            if name is not None and self._main_is_there and main_is_found():
                return NotImplemented  # by name
            reduced = super().reducer_override(obj)
            if name is None or not isinstance(reduced, tuple) or len(reduced) != 6:
                return reduced
            make, arguments, state, _, _, set_state = reduced
            code = None if is_class else obj.__code__
            key = (process._program, name)
            return _find_or_make, (key, code, make, arguments), (key, set_state, state), None, None, _set_unless_found

    return Pickler


def _name_in_main(obj: Any) -> str | None:
    """Returns the name with which the main module has a function or class; None if it does not have it."""
    if getattr(obj, "__module__", None) not in MAIN:
        return None
    name: str = obj.__qualname__
    return name if _look_up(name) is obj else None


def _look_up(name: str) -> Any:
    found: Any = sys.modules.get("__main__")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# --- unpickling: pickles name these functions ---


def _find_or_make(key: tuple[bytes, str], code: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Returns the object of that name in this run of the program, or makes a new one, also if the code has changed."""
    found = _found(key)
    if found is None or (code is not None and getattr(found, "__code__", None) != code):
        return make(*arguments)
    return found


def _set_unless_found(obj: Any, how: tuple[tuple[bytes, str], Callable[[Any, Any], object], Any]) -> None:
    key, set_state, state = how
    if _found(key) is not obj:
        set_state(obj, state)


def _found(key: tuple[bytes, str]) -> Any:
    program, name = key
    return _look_up(name) if program == process._program else None


_made: Any = None
