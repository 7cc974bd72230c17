"""Tells the exceptions of signal handlers from others."""

from __future__ import annotations

import signal
import threading
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["of_handler"]


def of_handler(error: BaseException) -> bool:
    """Returns whether a signal handler of this program has raised an exception in the midst of other code.

    True for each KeyboardInterrupt. For others the traceback says it. A handler that is none of Python's own functions,
    nor a method, a `functools.partial` or an object with `__call__`, is not recognised.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    codes = {_code_of(signal.getsignal(each)) for each in signal.valid_signals()}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: Any) -> Any:
    while isinstance(handler, partial):
        handler = handler.func
    for of in (handler, getattr(handler, "__func__", None), vars(type(handler)).get("__call__")):
        code = getattr(of, "__code__", None)
        if code is not None:
            return code
    return None
