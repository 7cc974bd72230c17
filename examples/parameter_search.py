"""Tries all combinations of some parameters. Some of them crash the
process, hang or raise: the search goes on.

    python examples/parameter_search.py

This happens with numerical libraries written in C, and when a model needs
more memory than there is.
"""

import itertools
import os
import signal
import time

import procession as mp

RATES = [0.01, 0.1, 0.5, 1.0]
DEPTHS = [2, 4, 8]


def score(rate: float, depth: int) -> float:
    """Runs in a worker. It stands for the training of a model."""
    if (rate, depth) == (0.5, 8):
        os.kill(os.getpid(), signal.SIGSEGV)  # a mistake in a library
    if (rate, depth) == (1.0, 4):
        time.sleep(600)  # does not converge
    if (rate, depth) == (1.0, 8):
        raise OverflowError("the weights are infinite")
    return 1 - abs(rate - 0.1) - abs(depth - 4) / 10


def main() -> None:
    combinations = list(itertools.product(RATES, DEPTHS))
    with mp.Pool(2) as pool:
        # one more try after a death; two seconds for each combination
        results = pool.starmap(
            score, combinations, on_error="return", retries=1, timeout=2
        )
    scores = {}
    for combination, result in zip(combinations, results, strict=True):
        if isinstance(result, mp.WorkerDiedError):
            name = signal.Signals(-result.exitcode).name
            print(f"{combination}: killed by {name}, {result.deaths} times")
        elif isinstance(result, mp.TaskTimeoutError):
            print(f"{combination}: too slow")
        elif isinstance(result, Exception):
            print(f"{combination}: {result!r}")
        else:
            scores[combination] = result
    best = max(scores, key=scores.get)
    print(f"{len(scores)} of {len(combinations)} combinations have a score")
    print(f"the best is {best}: {scores[best]:.2f}")


if __name__ == "__main__":
    main()
