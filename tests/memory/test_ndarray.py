"""numpy arrays in shared memory."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from pathlib import Path

import pytest

import procession as mp
from deadlines import PATIENCE, ended, running
from programs import run

np = pytest.importorskip("numpy", reason="numpy is not installed, and these tests are about its arrays")


def fill(array, inbox, outbox):
    """Writes into the array that it was given and into those that come, and sends them back."""
    array[:] = 7
    outbox.put("filled")
    while (other := inbox.get()) is not None:
        other[...] = 9
        outbox.put(other)


def test_an_array_of_zeros_of_every_shape_and_dtype():
    for shape in (5, (3, 4), [2, 2], (), (0, 3), (1,) * 20):
        for dtype in ("f8", "i2", "?", "c16", "S5", "M8[s]", [("x", "f4"), ("y", "i8")]):
            array = mp.ndarray(shape, dtype)
            assert array.shape == np.zeros(shape, dtype).shape
            assert array.dtype == np.dtype(dtype)
            assert array.tobytes() == bytes(array.nbytes)
    assert mp.ndarray((2, 3)).dtype == float
    assert mp.ndarray((2, 3), order="F").flags.f_contiguous
    assert mp.ndarray(10).ctypes.data % 64 == 0


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(TypeError, match="Python objects"):
        mp.ndarray(3, object)
    with pytest.raises(TypeError, match="Python objects"):
        mp.asarray([object()])
    with pytest.raises(ValueError):
        mp.ndarray(-1)
    with pytest.raises(ValueError):
        mp.ndarray(3, order="K")
    with pytest.raises(MemoryError):
        mp.ndarray(1 << 40, "f8")


def test_asarray_copies_once():
    plain = np.arange(12).reshape(3, 4).T
    shared = mp.asarray(plain)
    assert (shared == plain).all() and shared.dtype == plain.dtype
    assert mp.asarray(shared) is shared
    assert mp.asarray(shared[1:]).base is not None
    other = mp.asarray(shared, "f4")
    other[0, 0] = 5
    assert (shared[0, 0], other.dtype) == (0, np.dtype("f4"))
    assert mp.asarray([1, 2]).tolist() == [1, 2]


def test_views_are_pickled_as_handles_of_the_same_memory():
    array = mp.ndarray((10, 20), "i4")
    for view in (array, array[2:5, ::3], array.T, array[::-1], array.reshape(-1), array.view("f4"), array[3:3]):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            message = pickle.dumps(view, protocol)
            assert len(message) < 600
            other = pickle.loads(message)
            assert (other.shape, other.dtype, other.strides) == (view.shape, view.dtype, view.strides)
            other[...] = protocol + 1
            assert (view == protocol + 1).all()


def test_a_view_that_must_not_be_written_stays_so():
    array = mp.ndarray(5)
    array.flags.writeable = False
    other = pickle.loads(pickle.dumps(array))
    with pytest.raises(ValueError):
        other[0] = 1


def test_what_is_computed_from_it_is_an_ordinary_array():
    array = mp.ndarray(1000)
    for result in (array + 1, np.sqrt(array), array.copy(), array[[1, 2]], copy.copy(array), copy.deepcopy(array)):
        other = pickle.loads(pickle.dumps(result))
        other[...] = 5
        assert not (array == 5).any() and not (result == 5).any()
    assert type(array + 1) is np.ndarray
    assert type(array.sum()) is np.float64


def test_a_view_keeps_the_memory_of_an_array_that_has_gone():
    view = mp.ndarray(1 << 20)[5:10]
    plain = np.asarray(mp.ndarray(1 << 20))
    gc.collect()
    view[:] = 3
    plain[:] = 4
    assert not any(mp.ndarray(1 << 20).any() for _ in range(3))
    assert (view == 3).all() and (plain == 4).all()


def test_it_is_the_same_array_in_every_process(context):
    array, inbox, outbox = mp.ndarray((100, 100)), context.Queue(), context.Queue()
    with running(context, (fill, array, inbox, outbox)) as children:
        assert outbox.get(timeout=PATIENCE) == "filled"
        assert (array == 7).all()
        big = mp.ndarray(30 << 20, "u1")
        inbox.put(big[10:20])
        assert (outbox.get(timeout=PATIENCE) == 9).all()
        assert big[:30].tolist() == [0] * 10 + [9] * 10 + [0] * 10
        inbox.put(None)
        assert ended(*children) == [0]


def test_without_numpy_it_says_so_and_the_rest_works(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; sys.modules['numpy'] = None\n"
        "import procession as mp\n"
        "from procession import *\n"
        "assert mp.Value('i', 3).value == 3\n"
        "try: mp.ndarray(3)\n"
        "except ImportError as error: print(error)\n"
    )
    assert "numpy, which is not installed" in run(program).well()
    assert sys.modules["numpy"] is np
