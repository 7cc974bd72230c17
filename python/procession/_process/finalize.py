"""Callbacks that run when an object is collected or the process ends, whichever is first."""

from __future__ import annotations

import itertools
import os
from _weakref import ref

from .log import sub_debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Key = tuple[int | None, int]

__all__ = ["Finalize"]

# (exit priority, number) -> the finalizer that has not run yet
_finalizer_registry: dict[Key, Finalize] = {}
_finalizer_counter = itertools.count()


def _forget(self: Finalize) -> None:
    self._weakref = self._callback = self._key = None
    self._args, self._kwargs = (), {}


class Finalize:
    """A callback that runs once: when `obj` is collected, when this object is called, or when the process ends."""

    __module__ = "procession.util"  # the public name, which pickles use

    def __init__(
        self,
        obj: object,
        callback: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        """Registers a callback.

        A forked child does not run the callbacks that its parent has registered.

        Args:
            obj: the callback runs when it is collected; None: only at the end of the process.
            callback: called with args and kwargs. It must not refer to `obj`, which would never be collected.
            args: arguments of the callback.
            kwargs: keyword arguments of the callback.
            exitpriority: at the end of the process callbacks run by priority, the highest first, of equals the newest
                first; None: it does not run then.

        Raises:
            ValueError: `obj` and `exitpriority` are both None.
        """
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)}")
        self._weakref: ref[Any] | None = None
        if obj is not None:
            self._weakref = ref(obj, self)
        elif exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None")
        self._callback: Callable[..., Any] | None = callback
        self._args: Iterable[Any] = args
        self._kwargs: Mapping[str, Any] = kwargs or {}
        self._key: Key | None = (exitpriority, next(_finalizer_counter))
        self._pid = os.getpid()
        _finalizer_registry[self._key] = self

    def __call__(
        self,
        wr: object = None,
        # at the end of an interpreter the globals of a module may be gone before its objects
        _registry: dict[Key, Finalize] = _finalizer_registry,
        _log: Callable[..., None] = sub_debug,
        _getpid: Callable[[], int] = os.getpid,
        _forget: Callable[[Finalize], None] = _forget,
    ) -> Any:
        """Runs the callback and returns its result; None if it was run or cancelled before."""
        # the thread, or finalizer in a collection, that removes the entry runs the callback
        if self._key is None or _registry.pop(self._key, None) is None:
            _log("a finalizer was called again")
            return None
        callback, args, kwargs = self._callback, self._args, self._kwargs
        _forget(self)
        if self._pid != _getpid() or callback is None:
            _log("a finalizer of another process is passed over")
            return None
        _log("a finalizer calls %s with %s and %s", callback, args, kwargs)
        return callback(*args, **kwargs)

    def cancel(self) -> None:
        """Drops the callback."""
        if self._key is not None and _finalizer_registry.pop(self._key, None) is not None:
            _forget(self)

    def still_active(self) -> bool:
        """Returns whether the callback has not run yet."""
        return self._key in _finalizer_registry

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._callback is None or self._key is None or (self._weakref is not None and self._weakref() is None):
            return f"<{name} object, dead>"
        words = [f"<{name} object", f"callback={getattr(self._callback, '__name__', self._callback)}"]
        if self._args:
            words.append(f"args={self._args}")
        if self._kwargs:
            words.append(f"kwargs={self._kwargs}")
        if self._key[0] is not None:
            words.append(f"exitpriority={self._key[0]}")
        return ", ".join(words) + ">"


def _run_finalizers(minpriority: int | None = None) -> None:
    """Runs the finalizers whose priority is at least minpriority. None: those with any priority; drops the others.

    An exception in one is printed, and the next one runs.
    """
    due = []
    # a copy, made at once: another thread or a garbage collection may change the registry at any time
    for key in list(_finalizer_registry):
        priority, number = key
        if priority is not None and (minpriority is None or priority >= minpriority):
            due.append((priority, number))
    for key in sorted(due, reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is None:  # another one has run or cancelled it
            continue
        try:
            finalizer()
        except Exception:
            import traceback

            traceback.print_exc()
    if minpriority is None:
        _finalizer_registry.clear()
