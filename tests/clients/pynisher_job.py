"""pynisher's limits of memory and time, in a process that it starts."""

import loaded  # noqa: F401
from pynisher import MemoryLimitException, WallTimeoutException, limit


def use(megabytes):
    return len(bytearray(megabytes << 20))


def wait(seconds):
    import time

    time.sleep(seconds)


def main():
    limited = limit(use, memory=(400, "MB"))
    print(limited(10))
    try:
        print(limited(2000))
    except MemoryLimitException as error:
        print(type(error).__name__)
    try:
        limit(wait, wall_time=1)(60)
    except WallTimeoutException as error:
        print(type(error).__name__)


if __name__ == "__main__":
    main()
