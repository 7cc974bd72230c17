"""What the Rust program python_family.rs runs in Python: numpy on arrays that are memory of that program."""

from __future__ import annotations

from typing import Any

import procession
from procession.queues import ShutDown


def consume(frames: Any, results: Any) -> None:
    me = procession.current_process().name
    try:
        while True:
            frame = frames.get()
            results.put((me, float(frame.mean())))
    except ShutDown:
        pass
