"""Tensors on the CPU through shared memory of this package, without `/dev/shm` and without descriptors.

torch is imported when `enable` or `collate` is called.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["collate", "disable", "enable"]


def enable() -> None:
    """Sends tensors through queues, pipes and pools of this package as copies in shared memory.

    The call concerns what this process sends, and children that are forked afterwards. Receivers need no call.

    A tensor is copied once. The receiver gets memory of its own, and neither side sees what the other writes. (torch
    itself moves the sender's tensor into `/dev/shm`, and both sides use it.) `requires_grad` and the class
    `torch.nn.Parameter` are kept. Strides are kept if the tensor has no gaps, otherwise it arrives contiguous. Two
    views of one storage arrive as two tensors with memory of their own.

    torch goes on to send: tensors that are shared already (`share_memory_()`, `is_shared()`), those of other devices,
    sparse, quantized and nested ones, those with names or hooks, and classes that derive from `Tensor`. It refuses
    tensors that are not leaves and require a gradient.

    Messages other than tensors are sent more slowly from then on; see `procession.reduction.register`.

    If a process is killed, the memory of tensors that are on the way is freed with their queue.

    Raises:
        ImportError: torch is not installed.
    """
    _tensors().enable()


def disable() -> None:
    """Undoes `enable()`: torch sends all tensors itself."""
    _tensors().disable()


def collate(batch: list[Any]) -> Any:
    """Makes a batch, as `torch.utils.data.default_collate` does. For `DataLoader(collate_fn=...)`.

    In a worker of a `DataLoader` it calls `enable()` and makes batches in ordinary memory, so that they are copied once
    into shared memory and no file in `/dev/shm` is needed. Outside of workers it is `default_collate`.

    The loader uses processes of this package if it is given a context of it, as in
    `DataLoader(..., multiprocessing_context=procession.get_context("fork"))`, or if the program runs under
    `python -m procession`. Otherwise torch moves the batches into `/dev/shm` as ever.

    Raises:
        ImportError: torch is not installed.
    """
    return _tensors().collate(batch)


def _tensors() -> ModuleType:
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]  # noqa: F401  # pyright: ignore
    except ImportError as error:
        raise ImportError("procession.torch needs torch: pip install 'procession[torch]'") from error
    from ._neighbours import torch_tensors

    return torch_tensors
