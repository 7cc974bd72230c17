"""How tensors on the CPU are sent: as copies in family memory."""

from __future__ import annotations

from pickle import PickleBuffer

import torch  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
import torch.multiprocessing.reductions as theirs  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore
from torch.nn import Parameter  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore
from torch.utils.data import get_worker_info  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore
from torch.utils.data._utils import collate as collating  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore

from .. import reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["collate", "disable", "enable"]

SMALL = 4096  # number of bytes up to which a tensor is a part of the pickle
KINDS = (torch.Tensor, Parameter)

_replaced: dict[type, Any] | None = None  # what was registered before `enable`; None: it is not enabled


def enable() -> None:
    global _replaced  # noqa: PLW0603 (of this process)
    if _replaced is None:
        registered = reduction.ForkingPickler._extra_reducers
        _replaced = {kind: registered.get(kind) for kind in KINDS}
        for kind in KINDS:
            reduction.register(kind, _reduce)


def disable() -> None:
    global _replaced  # noqa: PLW0603 (of this process)
    if _replaced is not None:
        for kind, before in _replaced.items():
            if before is None:
                del reduction.ForkingPickler._extra_reducers[kind]
            else:
                reduction.register(kind, before)
        _replaced = None


def _is_ours(tensor: Any) -> bool:
    """Returns whether a tensor is sent in family memory."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.is_shared()
        and not tensor.is_quantized
        and not tensor.is_nested
        and not any(getattr(tensor, "names", ()))  # newer versions have none
        and not tensor._backward_hooks
        and (tensor.is_leaf or not tensor.requires_grad)
    )


def _reduce(tensor: Any) -> Any:
    if not _is_ours(tensor):
        return theirs.reduce_tensor(tensor)
    about = type(tensor), tensor.requires_grad, tensor.dtype
    plain = tensor.detach().resolve_conj().resolve_neg()  # torch's own reducer forgets these marks
    if not _has_no_gaps(plain):
        plain = plain.contiguous()
    size, stride = tuple(plain.shape), plain.stride()
    in_order = plain.as_strided((plain.numel(),), (1,))
    data = in_order.view(torch.uint8).numpy() if plain.numel() else b""
    if len(data) <= SMALL:
        return _rebuild, (*about, size, stride, bytearray(data))
    return _rebuild, (*about, size, stride, PickleBuffer(data))


def _has_no_gaps(tensor: Any) -> bool:
    """Returns whether the elements of a tensor lie side by side, in whichever order, each once."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def _rebuild(
    kind: type, requires_grad: bool, dtype: Any, size: tuple[int, ...], stride: tuple[int, ...], data: Any
) -> Any:
    """Makes the received tensor. Pickles name this function."""
    if len(data):
        tensor = torch.frombuffer(data, dtype=dtype).as_strided(size, stride)
    else:
        tensor = torch.empty(size, dtype=dtype)
    if kind is Parameter:
        return Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


# --- batches ---


def collate(batch: list[Any]) -> Any:
    if get_worker_info() is None:
        return collating.default_collate(batch)
    enable()
    return collating.collate(batch, collate_fn_map=_COLLATE)


def _collate_tensors(batch: list[Any], *, collate_fn_map: Any = None) -> Any:
    """Stacks tensors in ordinary memory; torch would do it in a new file in `/dev/shm`.

    The reducer copies the batch once, into family memory that earlier batches have used. That takes less time than to
    stack in new shared memory, whose pages the kernel must provide first.
    """
    first = batch[0]
    alike = all(type(one) is torch.Tensor and one.shape == first.shape and _is_ours(one) for one in batch)
    return torch.stack(batch, 0) if alike else _theirs(batch, collate_fn_map=collate_fn_map)


_theirs = collating.default_collate_fn_map[torch.Tensor]
_COLLATE = {**collating.default_collate_fn_map, torch.Tensor: _collate_tensors}
