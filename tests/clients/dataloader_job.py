"""Batches of torch's DataLoader. With Procession, its collate function makes them; a killed worker is an error."""

import os
import signal
import sys

import loaded  # noqa: F401
import torch
from torch.utils.data import DataLoader, Dataset


class Images(Dataset):
    def __init__(self, deadly=-1):
        self.deadly = deadly

    def __len__(self):
        return 48

    def __getitem__(self, n):
        if n == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.full((3, 64, 64), float(n)), n, {"weight": torch.ones(2) * n}


def collate_function():
    if "procession" not in sys.modules:
        return None
    from procession.torch import collate

    return collate


def main():
    for workers in (0, 1, 2):
        total = 0.0
        for images, labels, more in DataLoader(Images(), 8, num_workers=workers, collate_fn=collate_function()):
            assert torch.equal(images[:, 0, 0, 0], labels.float())
            assert torch.equal(more["weight"][:, 1], labels.float())
            total += images.sum().item()
        print(workers, total)
    try:
        for _ in DataLoader(Images(deadly=30), 8, num_workers=2, collate_fn=collate_function()):
            pass
    except RuntimeError as error:
        print("exited unexpectedly" in str(error) or "killed by signal" in str(error))


if __name__ == "__main__":
    main()
