"""Pickles views of dictionaries as lists, as multiprocessing does when its managers are imported."""

from __future__ import annotations

from ..reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["rebuild_as_list", "view_types", "without_views"]

view_types: list[type] = [type({}.items()), type({}.keys()), type({}.values())]
_VIEWS = frozenset(view_types)


def rebuild_as_list(obj: Any) -> tuple[type, tuple[list[Any]]]:
    """Reduces a view for pickle."""
    return list, (list(obj),)


def without_views(obj: Any) -> Any:
    """Returns the object, or a list of its items if it is a view."""
    return list(obj) if type(obj) in _VIEWS else obj


for _view in view_types:
    # `register` would tell queues that the program has its own reducers. Plain pickle cannot pickle views, so it asks
    # for this reducer.
    ForkingPickler._extra_reducers.setdefault(_view, rebuild_as_list)
