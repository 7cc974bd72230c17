"""The class of numpy arrays in family memory."""

from __future__ import annotations

import numpy as np

from .block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedArray", "placed"]


class SharedArray(np.ndarray):
    """A numpy array whose memory processes share. `procession.ndarray` and `procession.asarray` make it.

    It is pickled as a handle, at any time and to any process of the family: the receiver gets the same memory, of any
    size. So do receivers of views (slices, reshaped, transposed, of another dtype). Results that numpy computes from it
    are ordinary arrays, which are pickled as copies.

    The memory is freed when no process has a view of it any more, also if processes were killed. Reading and writing
    take no lock.
    """

    _block: Block | None
    _start: int

    def __array_finalize__(self, obj: object) -> None:
        self._block = getattr(obj, "_block", None)
        self._start = getattr(obj, "_start", 0)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return array
        if array.shape == ():
            return array[()]
        return array.view(np.ndarray)

    def _offset(self) -> int | None:
        """Returns its offset in the block; None if its memory is not in the block."""
        if self._block is None:
            return None
        offset: int = self.__array_interface__["data"][0] - self._start
        return offset if 0 <= offset <= len(self._block) else None

    def __reduce__(self) -> Any:
        offset = self._offset()
        if offset is None:
            return self.view(np.ndarray).__reduce__()
        return _view, (self._block, self.shape, self.dtype, offset, self.strides, self.flags.writeable)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._offset() is None:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        return self.__reduce__()

    def __copy__(self) -> Any:
        return np.array(self, subok=False)

    def __deepcopy__(self, memo: object) -> Any:
        return np.array(self, subok=False)


def placed(block: Block, array: SharedArray, offset: int = 0) -> SharedArray:
    """Stores in the array that it begins at that offset of the block. Returns it."""
    array._block = block
    array._start = array.__array_interface__["data"][0] - offset
    return array


def _view(
    block: Block, shape: tuple[int, ...], dtype: Any, offset: int, strides: tuple[int, ...], writeable: bool
) -> SharedArray:
    array = np.ndarray.__new__(SharedArray, shape, dtype, buffer=memoryview(block), offset=offset, strides=strides)
    array = placed(block, array, offset)
    if not writeable:
        array.flags.writeable = False
    return array
