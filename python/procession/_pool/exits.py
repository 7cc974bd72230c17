"""Functions that workers call when they end in good order (`exit_function`), and their results."""

from __future__ import annotations

from _thread import allocate_lock

from .worker import described, unsendable, worker_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..context import BaseContext

__all__ = ["ExitCall", "ExitResults"]


class ExitCall:
    """What a worker gets: the function, and the queue for its result, which stays there when the worker has ended."""

    def __init__(self, function: Callable[[], Any], queue: Any) -> None:
        self._function = function
        self._queue = queue

    def call(self) -> None:
        """Calls the function, in the worker. Its exception is put into the queue, too."""
        try:
            value = self._function()
        except BaseException as error:  # also of sys.exit(): the worker ends anyway
            self._queue.put((worker_id(), False, ("raised", described(error, None))))
            return
        try:
            self._queue.put((worker_id(), True, value))
        except Exception as error:
            self._queue.put((worker_id(), False, ("unsendable", unsendable(error, value))))


class ExitResults:
    """The results, on the side of the pool."""

    def __init__(self, context: BaseContext, function: Callable[[], Any]) -> None:
        self._queue = context.SimpleQueue()
        self._name = getattr(function, "__name__", "exit_function")
        self._come: list[tuple[int | None, bool, Any]] = []
        self._turn = allocate_lock()  # of two threads one would wait for the last result of the other
        self.call = ExitCall(function, self._queue)

    def read(self, return_exceptions: bool) -> list[Any]:
        """Returns the results of the workers that have ended. See `Pool.exit_results`."""
        from .errors import error_of

        with self._turn:
            while not self._queue.empty():
                try:
                    self._come.append(self._queue.get())
                except Exception as unreadable:  # the result cannot be unpickled here
                    self._come.append((None, False, ("unreadable", unreadable)))
            come = list(self._come)
        values: list[Any] = []
        for _, success, value in come:
            if success:
                values.append(value)
                continue
            error = error_of(value, self._name, None, None)
            if not return_exceptions:
                raise error
            values.append(error)
        return values
