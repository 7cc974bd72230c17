"""Arrays that joblib maps from a file: what workers write there is seen by all."""

import loaded  # noqa: F401
import numpy as np
from joblib import Parallel, delayed


def fill(shared, n):
    shared[n] = n + 1
    return type(shared).__name__


def main():
    shared = np.memmap("shared", dtype=float, shape=(4, 10_000), mode="w+")
    print(Parallel(n_jobs=2, backend="multiprocessing", max_nbytes=1000)(delayed(fill)(shared, n) for n in range(4)))
    print(shared.sum(axis=1).tolist())
    ordinary = np.zeros((4, 10_000))  # joblib maps that for the workers, who may not write to it
    calls = (delayed(type)(ordinary) for _ in range(2))
    print([kind.__name__ for kind in Parallel(n_jobs=2, backend="multiprocessing", max_nbytes=1000)(calls)])


if __name__ == "__main__":
    main()
