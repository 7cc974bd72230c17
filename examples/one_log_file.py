"""Workers log to one file: whole lines, each with the id of its process,
and none is lost when a worker is killed.

    python examples/one_log_file.py

The handler of a worker puts its records into a queue of Procession, and a
thread of this process writes them. When `put` returns, the record is safe
in shared memory.
"""

import logging
import logging.handlers
import os
import signal
import sys
import tempfile
from pathlib import Path

import procession as mp

log = logging.getLogger("shop")


def begin(records) -> None:
    """Runs once in each worker: all its records go to the queue."""
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(logging.INFO)


def sell(order: int) -> None:
    """Runs in a worker."""
    log.info("order %d begins", order)
    log.debug("not wanted: it stays in the worker")
    if order == 2:
        log.error("order %d kills its worker", order)
        os.kill(os.getpid(), signal.SIGKILL)
    log.info("order %d is done", order)


def main(path: Path) -> None:
    file = logging.FileHandler(path)
    file.setFormatter(
        logging.Formatter("%(process)d %(levelname)s %(message)s")
    )
    records = mp.Queue(name="log records")
    listener = logging.handlers.QueueListener(records, file)
    listener.start()
    with mp.Pool(2, initializer=begin, initargs=(records,)) as pool:
        pool.map(sell, range(4), on_error="return")
    listener.stop()
    file.close()
    lines = [line.partition(" ") for line in path.read_text().splitlines()]
    print("\n".join(sorted(text for _process, _space, text in lines)))
    print(
        "all of them from workers:",
        str(os.getpid()) not in {process for process, *_ in lines},
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch) / "shop.log")
