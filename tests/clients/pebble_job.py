"""pebble's pool, which is left open at the end: pebble stops it at exit, before children are joined."""

import time

import loaded  # noqa: F401
from pebble import ProcessPool


def main():
    pool = ProcessPool(max_workers=2)
    print(list(pool.map(abs, range(-10, 0)).result()))
    late = pool.schedule(time.sleep, args=(60,), timeout=0.5)
    try:
        late.result()
    except TimeoutError as error:
        print(type(error).__name__)
    print(pool.schedule(pow, args=(2, 10)).result())


if __name__ == "__main__":
    main()
