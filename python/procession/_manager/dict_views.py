"""Views of dictionaries travel as lists, as they do in multiprocessing once managers are imported."""

from __future__ import annotations

from ..reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["rebuild_as_list", "view_types", "without_views"]

view_types: list[type] = [type({}.items()), type({}.keys()), type({}.values())]
_VIEWS = frozenset(view_types)


def rebuild_as_list(obj: Any) -> tuple[type, tuple[list[Any]]]:
    """What pickling makes of a view."""
    return list, (list(obj),)


def without_views(obj: Any) -> Any:
    """The object, or a list of what is in it if it is a view."""
    return list(obj) if type(obj) in _VIEWS else obj


for _view in view_types:
    # not by `register`, which would tell queues that the program has reducers of its own: plain pickle has none for
    # views
    ForkingPickler._extra_reducers.setdefault(_view, rebuild_as_list)
