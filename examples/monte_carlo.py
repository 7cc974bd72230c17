"""Estimates a probability by many random trials. The result is the same for
any number of workers.

    python examples/monte_carlo.py

How likely is it that two of 23 people have the same birthday? Each task has
a random generator of its own, whose seed is made of the seed of the program
and the number of the task. So the result does not depend on the worker that
runs the task, and a task that is run again gives the same result.
"""

import random
from functools import partial

import procession as mp

SEED = 2024
TASKS, TRIALS = 40, 500


def shared_birthdays(seed: int, task: int) -> int:
    """Runs in a worker. Returns in how many trials two people have the same
    birthday.
    """
    rng = random.Random(f"{seed}/{task}")
    return sum(
        len({rng.randrange(365) for _person in range(23)}) < 23
        for _trial in range(TRIALS)
    )


def estimate(workers: int) -> float:
    with mp.Pool(workers) as pool:
        return sum(
            pool.imap_unordered(
                partial(shared_birthdays, SEED), range(TASKS)
            )
        ) / (TASKS * TRIALS)


def main() -> None:
    estimates = {workers: estimate(workers) for workers in (1, 2, 3)}
    for workers, probability in estimates.items():
        print(f"{workers} workers: {probability:.4f}")
    assert len(set(estimates.values())) == 1
    exact = 1.0
    for taken in range(23):
        exact *= (365 - taken) / 365
    print(f"exactly:   {1 - exact:.4f}")


if __name__ == "__main__":
    main()
