"""Primes, by the standard library's executor under every start method; an error, and a worker's name."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed

import loaded  # noqa: F401


def primes_below(n):
    return sum(all(k % d for d in range(2, int(k**0.5) + 1)) for k in range(2, n))


def fail(n):
    raise LookupError(n)


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            print(method, list(executor.map(primes_below, range(0, 2000, 250), chunksize=2)))
            futures = {executor.submit(primes_below, n): n for n in (10, 100, 1000)}
            print(sorted((futures[future], future.result()) for future in as_completed(futures)))
            print(repr(executor.submit(fail, 3).exception()))


if __name__ == "__main__":
    main()
