"""joblib's own backend, loky: its processes are its own, our queues and connections are between them."""

import os

import loaded  # noqa: F401
import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError


def norm(row):
    return float(np.abs(row).sum())


def main():
    table = np.arange(2_000_000, dtype=float).reshape(4, -1)  # what is above max_nbytes is mapped from a file
    print(Parallel(n_jobs=2)(delayed(pow)(n, 2) for n in range(100)))
    print(Parallel(n_jobs=2)(delayed(norm)(row) for row in table))
    factor = 3
    print(
        sorted(Parallel(n_jobs=2, return_as="generator_unordered")(delayed(lambda n: n * factor)(n) for n in range(9)))
    )
    try:
        Parallel(n_jobs=2)(delayed(os._exit if n == 5 else abs)(n) for n in range(20))
    except TerminatedWorkerError as error:
        print(type(error).__name__)
    print(Parallel(n_jobs=2)(delayed(abs)(n) for n in range(-3, 3)))


if __name__ == "__main__":
    main()
