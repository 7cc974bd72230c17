"""The shared dictionary beside a dict, through the same operations."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import procession as mp

KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "del", "pop", "setdefault", "get", "in", "change", "clear", "popitem"]),
        KEYS | st.sampled_from([0, 1, "a", (1, 2)]),
        st.integers() | st.binary(max_size=9000),
    ),
    max_size=40,
)


def step(mapping: Any, what: str, key: Any, value: Any) -> Any:
    """One operation on a dict or SharedDict, and what came of it."""
    try:
        if what == "set":
            mapping[key] = value
        elif what == "del":
            del mapping[key]
        elif what == "in":
            return key in mapping
        elif what == "change":
            if isinstance(mapping, dict):
                mapping[key] = (mapping[key], value)
            else:
                mapping.change(key, lambda old: (old, value))
        elif what == "clear":
            mapping.clear()
        elif what == "popitem":
            return mapping.popitem()
        elif what == "pop":
            return mapping.pop(key)
        else:
            return getattr(mapping, what)(key, value)
    except KeyError:
        return KeyError
    return None


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_it_does_what_a_dict_does(steps):
    ours, model = mp.SharedDict(), {}
    for one in steps:
        assert step(ours, *one) == step(model, *one)
        assert len(ours) == len(model)
    assert list(ours.items()) == list(model.items())
    assert [type(key) for key in ours] == [type(key) for key in model]
    assert ours == model
