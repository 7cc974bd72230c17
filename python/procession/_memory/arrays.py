"""Makes numpy arrays in family memory. numpy is imported when the first one is made."""

from __future__ import annotations

import math

from .block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Literal

    from .shared_array import SharedArray

__all__ = ["asarray", "ndarray"]


def ndarray(
    shape: int | tuple[int, ...], dtype: Any = float, order: Literal["C", "F"] = "C", *, name: str | None = None
) -> SharedArray:
    """Makes a numpy array of zeros in shared memory: a `SharedArray`.

    An array takes only the memory that is written, but the machine must have room for all of it.

    Args:
        shape: as for `numpy.zeros`.
        dtype: as for `numpy.zeros`.
        order: as for `numpy.zeros`.
        name: for observers of the running program.

    Raises:
        MemoryError: the machine has no room for it.
        TypeError: the dtype has Python objects in it.
        ImportError: numpy is not installed.
    """
    np = _numpy()
    from .shared_array import SharedArray, placed

    dtype = np.dtype(dtype)
    if dtype.hasobject:
        raise TypeError(f"an array of Python objects cannot be shared, as these lie elsewhere: {dtype}")
    if order not in ("C", "F"):
        raise ValueError(f"order is 'C' or 'F', not {order!r}")
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if any(n < 0 for n in lengths):
        raise ValueError(f"negative dimensions are not allowed: {shape}")
    block = Block(math.prod(lengths) * dtype.itemsize, name)
    return placed(block, np.ndarray.__new__(SharedArray, lengths, dtype, buffer=block, order=order))


def asarray(a: Any, dtype: Any = None, order: Literal["C", "F"] = "C", *, name: str | None = None) -> SharedArray:
    """Returns the array itself if it is in shared memory (and has that dtype); else copies it there.

    Args:
        a: any argument of `numpy.asarray`.
        dtype: of the result; None: that of `a`.
        order: of the copy.
        name: of the copy, for observers of the running program.

    Raises:
        MemoryError, TypeError, ImportError: as for `ndarray`.
    """
    np = _numpy()
    from .shared_array import SharedArray

    if isinstance(a, SharedArray) and a._offset() is not None and dtype in (None, a.dtype):
        return a
    source = np.asarray(a, dtype)
    shared = ndarray(source.shape, source.dtype, order, name=name)
    shared[...] = source
    return shared


def _numpy() -> ModuleType:
    try:
        import numpy
    except ImportError as error:
        raise ImportError("procession.ndarray and procession.asarray need numpy, which is not installed") from error
    return numpy
