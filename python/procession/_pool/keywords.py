"""What workers call instead of the function of `map_kwargs`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["WithKeywords"]


class WithKeywords:
    """Calls a function with an item as its keyword arguments."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func  # `errors.name_of` finds the name of the function by this attribute

    def __reduce__(self) -> tuple[Any, ...]:
        return WithKeywords, (self.func,)

    def __call__(self, item: Mapping[str, Any]) -> Any:
        return self.func(**item)
