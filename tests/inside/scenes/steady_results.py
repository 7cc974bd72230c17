"""A program that waits for the results of a `map`, which come one by one: python steady_results.py CALL.

CALL: `map`, or `imap`, whose first result comes last.
"""

from __future__ import annotations

import sys
import time

import procession as mp


def load(number: int) -> int:
    time.sleep(300 if number == 0 else 0.05)
    return number


def main() -> None:
    with mp.get_context("fork").Pool(2) as pool:
        print("ready", flush=True)
        if sys.argv[1] == "map":
            pool.map(load, range(10_000), chunksize=1)
        else:
            next(pool.imap(load, range(10_000)))


if __name__ == "__main__":
    main()
