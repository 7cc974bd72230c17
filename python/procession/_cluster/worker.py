"""What the workers of a node's pool run. Only here are the program's bytes unpickled, and not in the node's process."""

from __future__ import annotations

import os
from pickle import PickleBuffer

from .._pool import worker
from . import main_globals, pickling, sync, uploads
from .frames import safe, writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

__all__ = ["InitializerFailed", "begin", "described", "described_item", "run_call", "run_items", "unreadable"]

_MOST_KNOWN = 64  # functions that a worker keeps
_known: dict[bytes, Callable[..., Any]] = {}
_node = ""  # the name of the node


class InitializerFailed(Exception):
    """Raised by a worker whose initializer failed. `args[0]` is what `described` returns: plain objects only."""


def begin(init: Sequence[bytes], node: str, folder: str, relay: str) -> None:
    """Prepares a worker when it begins, and calls the initializer of the program.

    init: the pickle of the initializer and its arguments, and its buffers; empty: there is none. folder: of uploads.
    relay: the address of the node's relay, see `sync`.
    """
    uploads.append(folder)
    sync.relay_of_node = relay
    if not init:
        return
    pickled, *buffers = init
    try:
        with main_globals.arriving() as functions:
            initializer, initargs = pickling.loads(pickled, buffers=writable(buffers))
    except Exception as error:
        raise InitializerFailed(described(unreadable(error, node), node, None)) from None
    before = [dict(function.__globals__) for function in functions]
    try:
        initializer(*initargs)
    except Exception as error:
        raise InitializerFailed(described(error, node, None)) from None
    main_globals.keep(functions, before)


def run_call(definition: bytes, node: str, pickled: bytes, buffers: Sequence[Any]) -> tuple[Any, ...]:
    """Runs one call of `apply`. Returns as `run_items`."""
    try:
        function = _function(definition)
        args, keywords = pickling.loads(pickled, buffers=writable(buffers))
    except Exception as error:
        return False, described(unreadable(error, node), node, None)
    try:
        value = function(*args, **keywords)
    except Exception as error:
        return False, described(error, node, None)
    return _packed(value, node)


def run_items(definition: bytes, node: str, starred: bool, task: tuple[Any, ...]) -> tuple[Any, ...]:
    """Runs the calls of one task of a `map`.

    task: whether the result is a list, the pickle of the items, its buffers.

    Returns (True, the pickle of the result, *its buffers) or (False, what `described` returns).
    """
    global _node  # noqa: PLW0603 (of this process)
    _node = node
    many, pickled, *buffers = task
    try:
        function = _function(definition)
        items = pickling.loads(pickled, buffers=writable(buffers))
    except Exception as error:
        return False, described(unreadable(error, node), node, None)
    values: list[Any] = []
    try:
        if starred:
            for item in items:
                values.append(function(*item))
        else:
            for item in items:
                values.append(function(item))
    except Exception as error:
        return False, described(error, node, (len(values), items[len(values)]))
    return _packed(values if many else values[0], node)


def _packed(value: Any, node: str) -> tuple[Any, ...]:
    try:
        pickled, buffers = pickling.dumps(value)
    except Exception as error:
        return False, ("unsendable", tuple(map(safe, worker.unsendable(error, value))))
    if not buffers:
        return True, pickled
    return True, pickled, *map(PickleBuffer, buffers)


def _function(definition: bytes) -> Callable[..., Any]:
    found = _known.get(definition)
    if found is None:
        found = pickling.loads(definition)
        while len(_known) >= _MOST_KNOWN:
            del _known[next(iter(_known))]
        _known[definition] = found
    return found


def described(error: BaseException, node: str, place: tuple[int, object] | None) -> tuple[str, tuple[Any, ...]]:
    """Returns an exception as an outcome of the engine: plain objects, with the name of the node in the traceback.

    place: the number of the item in the task, and the item.
    """
    kind, message, text, pickled, at = worker.described(error, place, _pickled)
    text = f"On node {node}, in worker {os.getpid()}:\n{text}"
    at = None if at is None else (at[0], safe(at[1]))
    return "raised", (safe(kind), safe(message), safe(text), pickled, at)


def described_item(error: BaseException, item: object) -> tuple[str, tuple[Any, ...]]:
    """Returns the exception of an item whose task goes on; see `_pool.per_item`."""
    return described(error, _node, (0, item))


def _pickled(error: BaseException) -> bytes | None:
    pickled, buffers = pickling.dumps(error)
    return None if buffers else pickled  # a report has no place for them


def unreadable(error: BaseException, node: str) -> BaseException:
    """Returns the error for a function or arguments that a worker cannot unpickle. It names a missing module."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        text = (
            f"the module {error.name!r} is missing on node {node}: only functions and classes of the main module are"
            " sent with a call, all others are imported there; upload(path) of the cluster's context sends it"
        )
        return ModuleNotFoundError(text, name=error.name, path=error.path)
    if type(error).__name__ == "AuthenticationError":
        error.add_note("a proxy of a manager of one machine is used: use the Manager of the cluster's context")
    error.add_note(f"raised on node {node} while the function or the arguments of a call were unpickled")
    return error


def frames_of(buffers: Iterable[Any]) -> list[Any]:
    """Returns buffers that were received, in a form that goes through a pool without a copy in the pickle."""
    return [PickleBuffer(buffer) for buffer in buffers]
