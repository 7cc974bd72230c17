"""A program to be made into an executable. MODE says what it does: own, alias, mixed, leak, forgetful."""

import os
import signal
import sys
import time

MODE = os.environ["MODE"]

if MODE == "alias":
    import procession

    procession.install()

import concurrent.futures  # noqa: E402
import multiprocessing  # noqa: E402

import procession  # noqa: E402

METHODS = ("fork", "spawn", "forkserver")


def square(number):
    return number * number


def put(queue, value):
    queue.put((value, multiprocessing.current_process().name, sys.argv[1:]))


def use(mp, method):
    """A process, a manager, a pool; what cannot be pickled."""
    context = mp.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=put, args=(queue, 1), name="a child")
    process.start()
    said = queue.get()
    process.join()
    with context.Manager() as manager, context.Pool(2) as pool:
        print(method, said, process.exitcode, list(manager.list([1])), pool.map(square, range(3)))
    try:
        queue.put(sys.stdout)
    except TypeError as error:
        print(error.__notes__)


def leak():
    """Leaves a segment behind, for the watcher to remove."""
    from procession import resource_tracker, shared_memory

    segment = shared_memory.SharedMemory(create=True, size=100)
    print(segment.name, flush=True)
    # Only once the watcher runs, which shows in that it ignores Ctrl-C: an executable of one file is unpacked, and what
    # it was unpacked to goes with the program.
    while not ignored(resource_tracker._resource_tracker._pid) & 1 << signal.SIGINT - 1:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def ignored(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(next(line for line in file if line.startswith("SigIgn")).split()[1], 16)


def main():
    if MODE == "leak":
        leak()
    if MODE == "forgetful":
        process = procession.get_context("spawn").Process(target=square, args=(1,))
        process.start()
        process.join()
        return
    for method in METHODS:
        if MODE == "mixed":
            with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
                print("theirs", list(executor.map(abs, range(-2, 1))))
        use(multiprocessing if MODE == "alias" else procession, method)
    from procession import SharedDict, futures, rust  # noqa: F401 (they are found)

    with futures.ProcessPoolExecutor(1, mp_context=procession.get_context("spawn")) as executor:
        print(executor.submit(square, 5).result(), SharedDict({"a": 1})["a"])


if __name__ == "__main__":
    if MODE != "forgetful":
        procession.freeze_support()
    if MODE == "mixed":
        multiprocessing.freeze_support()
    main()
