"""What the calls of a pool take beyond multiprocessing's: how it is handed on, and the bar that `progress` shows."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["bar_of", "beyond"]


def beyond(timeout: float | None, retries: int | None, progress: bool) -> dict[str, Any]:
    """Arguments that multiprocessing has not, if they say something: an overridden method need not take them."""
    given: dict[str, Any] = {}
    if timeout is not None:
        given["timeout"] = timeout
    if retries is not None:
        given["retries"] = retries
    if progress:
        given["progress"] = True
    return given


def bar_of(length: int | None) -> Any:
    """A bar that shows how far things are, if there is tqdm."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return None
    return tqdm(total=length)
