"""A pool in which one long chunk runs and the other workers are idle: python long_chunk.py METHOD."""

from __future__ import annotations

import sys
import time

import procession as mp


def work(seconds: float) -> None:
    time.sleep(seconds)


def main(method: str) -> None:
    with mp.get_context(method).Pool(3) as pool:
        result = pool.map_async(work, [0.01, 0.01, 0.01, 600], chunksize=1)
        print("ready", flush=True)
        result.wait()


if __name__ == "__main__":
    main(sys.argv[1])
