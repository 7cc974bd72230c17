"""Workers log to one file: whole lines, each with the id of its process,
and none is lost when a worker is killed.

    python examples/one_log_file.py [FILE]

With `logs=True`, records of the workers reach the handlers of this process,
as if they were logged here. Before a logging call of a worker returns, its
record is safe in shared memory.
"""

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

import procession as mp

log = logging.getLogger("shop")


def sell(order: int) -> None:
    """Runs in a worker."""
    log.info("order %d begins", order)
    log.debug("not wanted, so it is not sent")
    if order == 2:
        log.error("order %d kills its worker", order)
        os.kill(os.getpid(), signal.SIGKILL)
    log.info("order %d is done", order)


def main(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="%(process)d %(levelname)s %(message)s",
    )
    with mp.Pool(2, logs=True) as pool:
        pool.map(sell, range(4), on_error="return")
        pool.close()
        pool.join()  # after that, all records are in the file
    lines = [line.partition(" ") for line in path.read_text().splitlines()]
    print("\n".join(sorted(text for _process, _space, text in lines)))
    processes = {process for process, _space, _text in lines}
    print("all of them from workers:", str(os.getpid()) not in processes)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch) / "shop.log")
