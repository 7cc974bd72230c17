"""What a worker calls instead of the function of a `map` whose items fail one by one.

An exception ends a task, and a task of several items would lose the values of the others with it. So the exception of
an item becomes its value, in a `Raised`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Caught", "Raised"]


class Raised:
    """The exception of an item: the parts of which `errors.error_of` makes it, or the exception of a thread itself."""

    __slots__ = ("what",)

    def __init__(self, what: tuple[Any, ...]) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return Raised, (self.what,)


class Caught:
    """Calls a function. Returns its value, or a `Raised`. KeyboardInterrupt and SystemExit end the task, as ever."""

    def __init__(
        self, func: Callable[..., Any], starred: bool, describe: Callable[[BaseException, Any], tuple[Any, ...]]
    ) -> None:
        """starred: the arguments are those of an item of `starmap`. describe: makes the argument of `error_of`."""
        self.func = func  # `errors.name_of` finds the name of the function by this attribute
        self.starred = starred
        self.describe = describe

    def __reduce__(self) -> tuple[Any, ...]:
        return Caught, (self.func, self.starred, self.describe)

    def __call__(self, *args: Any) -> Any:
        try:
            return self.func(*args)
        except Exception as error:
            return Raised(self.describe(error, args if self.starred else args[0]))


def in_process(error: BaseException, item: object) -> tuple[Any, ...]:
    """Describes an exception in a worker that is a process."""
    from .worker import described

    return "raised", described(error, (0, item))


def in_thread(error: BaseException, item: object) -> tuple[Any, ...]:
    """Describes an exception in a worker that is a thread, where nothing is pickled."""
    return "exception", error, item
