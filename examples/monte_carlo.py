"""Estimates a probability by many random trials. The result is the same for
any number of workers.

    python examples/monte_carlo.py

How likely is it that two of 23 people have the same birthday? With `seed=`,
each task has random numbers of its own. They depend on the seed and on the
number of the task, and not on the worker that runs it. So a task that is
run again, as its worker was killed, gives the same result.
"""

import random

import procession as mp

SEED = 2024
PEOPLE, TASKS, TRIALS = 23, 40, 500


def shared_birthdays(trials: int) -> int:
    """Runs in a worker. Returns in how many trials two people have the same
    birthday."""
    found = 0
    for _trial in range(trials):
        days = {random.randrange(365) for _person in range(PEOPLE)}
        found += len(days) < PEOPLE
    return found


def estimate(workers: int) -> float:
    with mp.Pool(workers, seed=SEED) as pool:
        found = pool.imap_unordered(shared_birthdays, [TRIALS] * TASKS)
        return sum(found) / (TASKS * TRIALS)


def main() -> None:
    estimates = {workers: estimate(workers) for workers in (1, 2, 3)}
    for workers, probability in estimates.items():
        print(f"{workers} workers: {probability:.4f}")
    assert len(set(estimates.values())) == 1
    exact = 1.0
    for taken in range(PEOPLE):
        exact *= (365 - taken) / 365
    print(f"exactly:   {1 - exact:.4f}")


if __name__ == "__main__":
    main()
