"""A program whose children stop at breakpoints, under every start method: debugged.py PACKAGE."""

import importlib
import os
import sys


def child_of_fork(number):
    return number * number  # breakpoint


def child_of_spawn(number):
    return number * number  # breakpoint


def child_of_forkserver(number):
    return number * number  # breakpoint


def main(package):
    for method in ("fork", "spawn", "forkserver"):
        context = importlib.import_module(package).get_context(method)
        function = globals()[f"child_of_{method}"]
        process = context.Process(target=function, args=(3,))
        process.start()
        process.join()
        with context.Pool(2) as pool:
            print(method, process.exitcode, pool.map(function, range(3), chunksize=1))
            pool.close()
            pool.join()


with open(os.path.abspath(__file__)) as file:
    BREAKPOINTS = [number for number, line in enumerate(file, 1) if line.endswith("# breakpoint\n")]

if __name__ == "__main__":
    main(*sys.argv[1:])
