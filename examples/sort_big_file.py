"""Sorts a text file that is bigger than memory: workers sort parts of it,
and this process merges them.

    python examples/sort_big_file.py [FILE RESULT]

Only names and positions of parts are sent. Each worker reads its part of
the file itself and writes it sorted to a file of its own. Without arguments
the program sorts a file that it makes.
"""

import heapq
import os
import random
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import procession as mp

# bytes; for a real file, so many that all workers' parts fit into memory
PART = 200_000


def parts(path: Path) -> list[tuple[int, int]]:
    """Divides the file between lines. Returns where each part begins and
    ends.
    """
    ends, size = [0], path.stat().st_size
    with path.open("rb") as file:
        while ends[-1] < size:
            file.seek(min(ends[-1] + PART, size))
            file.readline()
            ends.append(file.tell())
    return list(pairwise(ends))


def sort_part(path: Path, folder: Path, part: tuple[int, int]) -> Path:
    """Runs in a worker."""
    begin, end = part
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read(end - begin).splitlines(keepends=True)
    lines.sort()
    sorted_part = folder / f"{begin}.part"
    sorted_part.write_bytes(b"".join(lines))
    return sorted_part


def sort_file(path: Path, result: Path) -> int:
    with (
        tempfile.TemporaryDirectory(dir=result.parent) as folder,
        ExitStack() as files,
        mp.Pool() as pool,
    ):
        done = pool.map(partial(sort_part, path, Path(folder)), parts(path))
        with result.open("wb") as output:
            output.writelines(
                heapq.merge(
                    *(files.enter_context(part.open("rb")) for part in done)
                )
            )
        return len(done)


def main(folder: Path) -> None:
    rng = random.Random(1)
    lines = [b"%012d\n" % rng.randrange(10**12) for _ in range(100_000)]
    (folder / "numbers").write_bytes(b"".join(lines))
    count = sort_file(folder / "numbers", folder / "sorted")
    print(
        f"{len(lines)} lines in {count} parts; sorted:",
        (folder / "sorted").read_bytes() == b"".join(sorted(lines)),
    )
    print("left behind:", sorted(os.listdir(folder)))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sort_file(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
