"""A map with a progress bar."""

import loaded  # noqa: F401
from tqdm.contrib.concurrent import process_map


def collatz(n):
    steps = 0
    while n > 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps


if __name__ == "__main__":
    print(process_map(collatz, range(500), max_workers=2, chunksize=10, desc="collatz"))
