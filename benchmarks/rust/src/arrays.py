"""The Python side of the row "1 MiB of floats from Python"."""

from __future__ import annotations

from typing import Any

import numpy as np


def send(arrays: Any, go: Any, count: int) -> None:
    """Sends one array at once, and `count` more when `go` is set."""
    array = np.ones(1 << 18, np.float32)
    arrays.put(array)
    go.wait()
    for _ in range(count):
        arrays.put(array)
