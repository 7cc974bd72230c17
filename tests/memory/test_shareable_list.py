"""Whatever is put into a list with a name comes out again."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procession._memory import segments
from procession.shared_memory import ShareableList

pytestmark = pytest.mark.skipif(
    not os.access(segments.FOLDER, os.W_OK), reason=f"needs {segments.FOLDER}, which cannot be written to here"
)

ITEMS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ITEMS, max_size=8))
def test_a_list_stores_every_item_unharmed(items):
    shared = ShareableList(items)
    try:
        assert list(shared) == items
        assert [type(item) for item in shared] == [type(item) for item in items]
        assert list(pickle.loads(pickle.dumps(shared))) == items
        for i, item in enumerate(items):
            shared[i] = None
            shared[i] = item
        assert list(shared) == items
    finally:
        shared.shm.unlink()
