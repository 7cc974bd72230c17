"""Waits in an event loop for what other processes do, without a thread that waits for it.

A loop that waits for an object registers its mailbox, a socket, with the object (see `_core.Mailbox`). A process that
changes the object sends a call to the mailbox, and each waiter in the loop tries again. A call is lost only if its
sender is killed before it sends it, and an object has room for few mailboxes; so no waiter waits longer than a bound
before it tries again.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref

from .. import _core
from .base import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Target(Protocol):
        """An object for which a loop can wait."""

        @property
        def _key(self) -> tuple[int, int]: ...
        def _register_waker(self, address: int) -> bool: ...
        def _unregister_waker(self, address: int) -> None: ...
        def _task_waits(self, what: str, timeout: float | None = None, detail: int = 0) -> object: ...


__all__ = ["attempted"]

# Seconds after which a waiter tries again without a call: if its mailbox is registered with the object, and if not.
_CALLED = 0.5
_UNCALLED = 0.02


class _Post:
    """The mailbox of a loop, and the futures that wait for a call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = os.getpid()
        self._mailbox = _core.Mailbox()
        self._waiting: set[asyncio.Future[None]] = set()
        self._registered: dict[tuple[int, int], list[int | bool]] = {}
        loop.add_reader(self._mailbox.fileno(), self._deliver)

    def _deliver(self) -> None:
        self._mailbox.empty()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def register(self, target: Target) -> bool:
        """Registers this mailbox with the target; False if the target has no room."""
        base = ours(target)
        key = base._key.__get__(target)
        entry = self._registered.get(key)
        if entry is None:
            entry = self._registered[key] = [0, base._register_waker(target, self._mailbox.address)]
        entry[0] += 1
        return bool(entry[1])

    def leave(self, target: Target) -> None:
        """Ends a registration. The last waiter for the target removes the mailbox from it."""
        base = ours(target)
        key = base._key.__get__(target)
        entry = self._registered[key]
        entry[0] -= 1
        if not entry[0]:
            del self._registered[key]
            base._unregister_waker(target, self._mailbox.address)

    async def call(self, future: asyncio.Future[None], seconds: float) -> None:
        """Waits for a call, at most `seconds`."""
        try:
            await asyncio.wait((future,), timeout=seconds)
        finally:
            self._waiting.discard(future)

    def expect(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Returns a future of the next call. Get it before the attempt: a call may come right after that fails."""
        future = loop.create_future()
        self._waiting.add(future)
        return future


_posts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Post] = weakref.WeakKeyDictionary()


def _post_of(loop: asyncio.AbstractEventLoop) -> _Post:
    post = _posts.get(loop)
    if post is None or post.pid != os.getpid():
        post = _posts[loop] = _Post(loop)
    return post


async def attempted(
    target: Target, what: str, attempt: Callable[[], T | None], timeout: float | None, detail: int = 0
) -> T | None:
    """Calls attempt() until it returns something else than None, again after each call of the target.

    what: what the task waits for, for observers of the program, as `_task_waits` names it; detail: see there.

    Returns that value; None after `timeout` seconds. The loop is not blocked. Cancelling the task ends the wait and
    leaves the object as it is. Exceptions of attempt are passed on.
    """
    value = attempt()
    if value is not None or (timeout is not None and timeout <= 0):
        return value
    limit = None if timeout is None else time.monotonic() + timeout
    loop = asyncio.get_running_loop()
    post = _post_of(loop)
    patience = _CALLED if post.register(target) else _UNCALLED
    recorded: object = None  # for observers, until it is dropped
    try:
        while True:
            turn = post.expect(loop)
            try:
                value = attempt()
            except BaseException:
                post._waiting.discard(turn)
                raise
            left = patience if limit is None else min(patience, limit - time.monotonic())
            if value is not None or left <= 0:
                post._waiting.discard(turn)
                return value
            if recorded is None:
                recorded = ours(target)._task_waits(target, what, timeout, detail)
            await post.call(turn, left)
    finally:
        recorded = None
        post.leave(target)
