"""A program whose children call functions that tools are to see: watched.py PACKAGE."""

import importlib
import sys


def by_process(number):
    return number * number


def by_pool(number):
    if number < 0:
        return "is not reached"
    return number + 1


def main(package):
    for method in ("fork", "spawn", "forkserver"):
        context = importlib.import_module(package).get_context(method)
        process = context.Process(target=by_process, args=(3,))
        process.start()
        process.join()
        with context.Pool(2) as pool:
            print(method, process.exitcode, pool.map(by_pool, range(3), chunksize=1), flush=True)
            pool.close()
            pool.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
