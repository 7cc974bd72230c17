"""Small tasks and big arrays through joblib."""

import loaded  # noqa: F401
import numpy as np
from joblib import Parallel, delayed, parallel_config


def norm(row, power=2):
    return float((np.abs(row) ** power).sum() ** (1 / power))


def main():
    table = np.arange(200_000, dtype=float).reshape(20, -1)  # rows, and the whole, above max_nbytes
    with parallel_config(backend="multiprocessing", n_jobs=2):
        print([round(n, 3) for n in Parallel()(delayed(norm)(row) for row in table)])
        print(Parallel(batch_size=7)(delayed(pow)(n, 2) for n in range(100)))
        print(Parallel(max_nbytes="1M")(delayed(np.sum)(np.full(300_000, n)) for n in range(4)))


if __name__ == "__main__":
    main()
