"""A cache that all workers share: what one has computed, no other computes
again.

    python examples/shared_cache.py

The cache is a `SharedDict`, which lies in shared memory and needs no
server. A lock for each key makes others wait while one worker computes the
value of that key. If this worker is killed, the next one computes it.
"""

import procession as mp

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "the",
    "dog",
    "sat",
    "on",
    "the",
    "cat",
    "and",
    "the",
    "mat",
]


def look_up(word: str) -> str:
    """Stands for something slow: a request to another machine, or a large
    file.
    """
    with calls:
        calls.value += 1
    return word[::-1]


def cached(word: str) -> str:
    """Runs in a worker."""
    found = cache.get(word)
    if found is None:
        try:
            with cache.lock(word):
                found = cache.get(
                    word
                )  # another worker may have computed it meanwhile
                if found is None:
                    found = cache[word] = look_up(word)
        except mp.OwnerDiedError:  # the worker that computed it was killed
            return cached(word)
    return found


def begin(*shared: object) -> None:
    """Runs once in each worker, before its first task."""
    global cache, calls
    cache, calls = shared


def main() -> None:
    cache, calls = mp.SharedDict(), mp.Value("i", 0)
    with mp.Pool(2, initializer=begin, initargs=(cache, calls)) as pool:
        print(" ".join(pool.map(cached, WORDS, chunksize=1)))
    print(f"{len(WORDS)} words, {calls.value} of them looked up")


if __name__ == "__main__":
    main()
