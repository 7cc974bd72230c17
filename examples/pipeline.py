"""A pipeline of three stages: one process reads, some compress, one writes.
The queues between them are bounded.

    python examples/pipeline.py

A stage that is too fast waits, so memory stays small whatever the size of
the input. Each stage ends when the queue before it is shut down and empty:
no marks for the end are needed, and none is lost if a worker dies.
"""

import tempfile
import zlib
from pathlib import Path

import procession as mp
from procession.queues import Queue, ShutDown

PARTS, SIZE, COMPRESSORS = 60, 100_000, 2


def read(parts: Queue[tuple[int, bytes]]) -> None:
    for number in range(PARTS):
        parts.put(
            (number, b"%d " % number * (SIZE // 3))
        )  # waits while the queue has its 2 MB
    parts.shutdown()


def compress(
    parts: Queue[tuple[int, bytes]], packed: Queue[tuple[int, bytes]]
) -> None:
    while True:
        try:
            number, part = parts.get()
        except ShutDown:
            return
        packed.put((number, zlib.compress(part)))


def write(packed: Queue[tuple[int, bytes]], folder: Path) -> None:
    while True:
        try:
            number, part = packed.get()
        except ShutDown:
            return
        (folder / f"{number:03}.z").write_bytes(part)


def main(folder: Path) -> None:
    parts, packed = (
        mp.Queue(maxbytes="2MB", name="parts"),
        mp.Queue(maxsize=20, name="packed"),
    )
    reader = mp.Process(target=read, args=(parts,))
    compressors = [
        mp.Process(target=compress, args=(parts, packed))
        for _ in range(COMPRESSORS)
    ]
    writer = mp.Process(target=write, args=(packed, folder))
    for process in (reader, *compressors, writer):
        process.start()
    for process in (reader, *compressors):
        process.join()
    packed.shutdown()  # nothing more will come
    writer.join()

    files = sorted(folder.iterdir())
    print(f"{len(files)} files")
    print(
        "the last one begins with",
        zlib.decompress(files[-1].read_bytes())[:9],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
