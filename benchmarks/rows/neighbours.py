"""Libraries that have a part of this package for them, with that part, and with their own processes.

joblib: the backend "procession", and its own one, loky. torch: a DataLoader with `procession.torch.collate`, and with
its own collate function. A library that is not installed has no rows.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any

from benchmarks.measure import Rows, main

rows = Rows(())
WORKERS = 2


def joblib_call(mp: Any) -> Any:
    """Makes a joblib.Parallel whose workers are up."""
    import joblib

    if mp.__name__ == "procession":
        import procession.joblib

        procession.joblib.register()
    backend = "procession" if mp.__name__ == "procession" else "loky"
    parallel = joblib.Parallel(n_jobs=WORKERS, backend=backend, batch_size=1)
    parallel(joblib.delayed(time.sleep)(0.01) for _ in range(4 * WORKERS))
    return parallel


if importlib.util.find_spec("joblib") is not None:

    @rows.row("joblib: tiny tasks in batches of 1, against loky", first=1000)
    def joblib_tiny(mp: Any, count: int) -> float:
        import joblib

        parallel = joblib_call(mp)
        began = time.perf_counter()
        parallel(joblib.delayed(abs)(n) for n in range(count))
        return time.perf_counter() - began

    @rows.row("joblib: fresh 8 MB arrays, against loky", first=20)
    def joblib_arrays(mp: Any, count: int) -> float:
        import joblib
        import numpy

        parallel = joblib_call(mp)
        began = time.perf_counter()
        parallel(joblib.delayed(numpy.size)(numpy.full(1 << 20, float(n))) for n in range(count))
        return time.perf_counter() - began


if importlib.util.find_spec("torch") is not None:

    @rows.row("torch: DataLoader's batches of 19 MB", first=10)
    def torch_batches(mp: Any, count: int) -> float:
        import torch  # type: ignore[import-not-found,unused-ignore]
        from torch.utils.data import DataLoader  # type: ignore[import-not-found,unused-ignore]

        import procession.torch

        torch.set_num_threads(1)
        items = [torch.ones(3, 224, 224)] * (32 * (count + 3))
        collate = procession.torch.collate if mp.__name__ == "procession" else None
        context = mp.get_context("fork")
        loader = DataLoader(items, 32, num_workers=1, collate_fn=collate, multiprocessing_context=context)
        began = 0.0
        for number, batch in enumerate(loader):
            if number == 2:  # the worker is up
                began = time.perf_counter()
            assert batch.shape[0] == 32
        return time.perf_counter() - began


if __name__ == "__main__":
    main(rows)
