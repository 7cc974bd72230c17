"""The end of a pool: `join` with a time limit, and the end of an `async with` block."""

from __future__ import annotations

import threading

from ..context import TimeoutError
from .results import call_soon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["in_a_thread", "join_for"]


def join_for(pool: Any, timeout: float) -> None:
    """Waits until all workers of a pool have ended. TimeoutError: some run after `timeout` seconds."""
    thread = pool._supervisor.thread
    pool._engine.wait_by(thread.join, (min(timeout, threading.TIMEOUT_MAX),), timeout)
    if thread.is_alive():
        jobs = pool._engine.jobs
        raise TimeoutError(f"the pool has not ended within {timeout:g} seconds; calls that are not done: {jobs}")


async def in_a_thread(call: Callable[..., object], *args: Any, cut: Callable[[], object] = lambda: None) -> None:
    """Calls call(*args) in a thread of its own, and waits for its end, so that the event loop goes on.

    If the task that waits is cancelled, it calls `cut`, which makes the call end soon, and raises CancelledError when
    the call has ended.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def run() -> None:
        error: BaseException | None = None
        try:
            call(*args)
        except BaseException as raised:
            error = raised
        call_soon(loop, ended.set_result, error)

    threading.Thread(target=run, name="PoolEnder", daemon=True).start()
    cancelled: BaseException | None = None
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError as error:
            cancelled = error
            cut()
    if (failure := ended.result()) is not None:
        raise failure
    if cancelled is not None:
        raise cancelled
