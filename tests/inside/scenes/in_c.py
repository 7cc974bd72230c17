"""A child hangs in a C call with the interpreter lock: python in_c.py METHOD."""

from __future__ import annotations

import ctypes
import sys

import procession as mp


def hang(ready) -> None:
    ready.set()
    ctypes.PyDLL(None).pause()


def main(method: str) -> None:
    context = mp.get_context(method)
    ready = context.Event()
    child = context.Process(target=hang, args=(ready,), name="hung")
    child.start()
    ready.wait()
    print("ready", flush=True)
    child.join()


if __name__ == "__main__":
    main(sys.argv[1])
