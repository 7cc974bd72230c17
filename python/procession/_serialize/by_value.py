"""What pickle cannot send by name goes by value, through cloudpickle.

pickle sends a function or class as the name under which the receiver finds it. It finds nothing for lambdas, for what
is defined inside a function, and for what the main module defines where no child can import that: a program that was
read from standard input or given with -c, a notebook, an interactive session, the `__main__` of a package or zip file.

Plain pickle is tried first, being several times faster. cloudpickle is imported only when that fails, or when what it
wrote names a main module that the receiver does not have. Names that the receiver can resolve go by name even then.
And since a *forked* receiver does have that main module, the receiver has the last word: what comes by value has its
name with it, and where the very same run of the program has something under that name, it is that. So `isinstance`
holds, and a function sees the globals that it should.
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
NAMED = b"__main__"  # in a pickle, if it names something in the main module


def main_is_found() -> bool:
    """Whether children that are not forked import the main module of this process, so that its names mean something."""
    from .._process import main_script

    # what is typed after a script has run is not in its file
    is_interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return not is_interactive and main_script.is_imported(main_script.main_module())


def needed(pickled: Any) -> bool:
    """Whether what plain pickle has made (bytes, bytearray) names something that only forked receivers would find."""
    return NAMED in pickled and not main_is_found()


def helps(error: BaseException) -> bool:
    """Whether an error of plain pickle is of the kind that pickling by value may help with."""
    from pickle import PicklingError

    return isinstance(error, (PicklingError, AttributeError, TypeError))


def dumps_by_value(
    obj: Any,
    *,
    buffer_callback: Callable[[Any], Any] | None = None,
    dump: Callable[[Any, Any], object] | None = None,
) -> bytes:
    """The object pickled (protocol 5), with functions and classes by value that the receiver may not find by name.

    Reducers that were registered with `ForkingPickler` are used. buffer_callback: as with `pickle.Pickler`. dump:
    called with pickler and object in place of the pickler's method. What plain `pickle.loads` makes of it is the
    object, in a process that can import this package and cloudpickle.

    Raises what pickling raises: an open file or a thread's lock can be sent no more than with plain pickle.
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
    """The object as plain(obj) pickles it, or where that is not enough, by value. again: called before the latter.
    buffer_callback, dump: as for `dumps_by_value`.

    If both fail, the error is the second one: it is about what really cannot be sent, and not about the lambda that
    holds it.
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
            # a global that cannot be pickled, say; forked receivers manage with the name
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
        del first  # its traceback has this frame, and so all that the callers' frames refer to


# --- on the way ---


def _pickler_class() -> Any:
    """The pickler, made when it is first needed: cloudpickle takes 20 ms to import."""
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
    # What functions and classes consist of. Other things that cloudpickle would send arrive as something else
    # (an open file as its contents, a memoryview as bytes), and they are an error as they are with plain pickle.
    parts = (CellType, CodeType, GetSetDescriptorType, MappingProxyType, MethodType, ModuleType)
    decorators = (classmethod, staticmethod, property)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def __init__(self, file: Any, buffer_callback: Callable[[Any], Any] | None) -> None:
            theirs = cloudpickle.Pickler.dispatch_table if by_value is None else by_value
            chosen = {
                kind: reduce
                for kind, reduce in theirs.items()
                if kind in parts or kind in decorators or kind.__module__ in ("abc", "typing", "dataclasses")
            }
            # before the base class looks for it
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
            if name is not None and main_is_found():
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
    """The name under which a function or class is found in the main module, if that is where it is."""
    if getattr(obj, "__module__", None) not in MAIN:
        return None
    name: str = obj.__qualname__
    return name if _look_up(name) is obj else None


def _look_up(name: str) -> Any:
    found: Any = sys.modules.get("__main__")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


# --- on arrival; pickles name these functions ---


def _find_or_make(key: tuple[bytes, str], code: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What this run of the program has under that name, or a new one. (A function may have been defined anew since.)"""
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
