"""A program that keeps a pool which has ended: python ended_pool.py METHOD HOW.

HOW: `close`, `terminate` (with tasks that are left undone), or `other` (as `close`, while another pool goes on).
"""

from __future__ import annotations

import sys
import time

import procession as mp


def load(number: int) -> int:
    time.sleep(0.01)
    return number


def main() -> None:
    context = mp.get_context(sys.argv[1])
    other = context.Pool(1, name="other") if sys.argv[2] == "other" else None
    pool = context.Pool(2, name="loader")
    pool.map(load, range(20), chunksize=1)
    if sys.argv[2] == "terminate":
        pool.map_async(time.sleep, [60] * 4, chunksize=1)
        while pool.statistics()[0].state != "busy":
            time.sleep(0.01)
        pool.terminate()
    else:
        pool.close()
    pool.join()
    print("ready", flush=True)
    time.sleep(300)
    del other


if __name__ == "__main__":
    main()
