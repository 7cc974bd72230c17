"""Computes how heat spreads in a plate. All processes work on one numpy
array in shared memory.

    python examples/heat_grid.py

Each process has some rows. It reads the rows of its neighbours, but writes
only its own. A barrier keeps the processes in step. Nothing is sent: the
arrays are handed over once, as handles.
"""

from itertools import pairwise

import numpy as np

import procession as mp

ROWS, COLUMNS, STEPS, WORKERS = 120, 160, 100, 2


def step(old: np.ndarray, new: np.ndarray, first: int, end: int) -> None:
    """Sets rows of `new` to the means of their neighbours in `old`. The
    edge of the plate stays as it is.
    """
    neighbours = (
        old[first - 1 : end - 1, 1:-1] + old[first + 1 : end + 1, 1:-1]
    )
    neighbours += old[first:end, :-2] + old[first:end, 2:]
    new[first:end, 1:-1] = neighbours / 4


def work(
    grids: tuple[np.ndarray, np.ndarray],
    first: int,
    end: int,
    barrier: "mp.synchronize.Barrier",
) -> None:
    old, new = grids
    for _ in range(STEPS):
        step(old, new, first, end)
        barrier.wait(
            timeout=60
            # if a process dies, the others get an error and do not wait for
            # ever
        )
        old, new = new, old


def heated(make) -> tuple[np.ndarray, np.ndarray]:
    grids = make((ROWS, COLUMNS)), make((ROWS, COLUMNS))
    for grid in grids:
        grid[0] = 100.0  # the upper edge is hot
    return grids


def main() -> None:
    grids, barrier = heated(mp.ndarray), mp.Barrier(WORKERS)
    bounds = np.linspace(1, ROWS - 1, WORKERS + 1).astype(int)
    workers = [
        mp.Process(target=work, args=(grids, first, end, barrier))
        for first, end in pairwise(bounds)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    result = grids[STEPS % 2]
    warm = np.count_nonzero(result > 1)
    print(f"warmer than one degree: {warm} of {result.size} cells")

    old, new = heated(np.zeros)
    for _ in range(STEPS):
        step(old, new, 1, ROWS - 1)
        old, new = new, old
    print("the same as in one process:", np.array_equal(result, old))


if __name__ == "__main__":
    main()
