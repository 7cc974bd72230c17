"""Makes small copies of all pictures of a folder. A broken picture is
named, and costs no other.

    python examples/thumbnails.py [FOLDER]

The pictures are PPM files (netpbm), so that the program needs no library.
Without a folder it draws three of its own.
"""

import sys
import tempfile
from pathlib import Path

import procession as mp

SIDE = 40  # pixels of the longer side of a thumbnail


def read(path: Path) -> tuple[int, int, bytes]:
    kind, size, _brightest, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    if kind != b"P6" or len(pixels) != 3 * width * height:
        raise ValueError(f"{len(pixels)} bytes of {3 * width * height}")
    return width, height, pixels


def write(path: Path, width: int, height: int, pixels: bytes) -> None:
    path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + pixels)


def shrink(path: Path) -> str:
    """Runs in a worker: takes every n-th pixel of every n-th row."""
    width, height, pixels = read(path)
    step = max(1, max(width, height) // SIDE)
    starts = [
        3 * (y * width + x)
        for y in range(0, height, step)
        for x in range(0, width, step)
    ]
    small = b"".join(pixels[start : start + 3] for start in starts)
    across, down = len(range(0, width, step)), len(range(0, height, step))
    write(path.with_suffix(".thumb"), across, down, small)
    return f"{width} x {height} -> {across} x {down}"


def draw(folder: Path) -> None:
    for name, width, height in [
        ("lake", 400, 200),
        ("tower", 200, 600),
        ("street", 320, 320),
    ]:
        rows = (
            bytes((x % 256, y % 256, 128))
            for y in range(height)
            for x in range(width)
        )
        write(folder / f"{name}.ppm", width, height, b"".join(rows))
    torn = folder / "street.ppm"
    torn.write_bytes(
        torn.read_bytes()[:-1000]
    )  # as after a download that was interrupted


def main(folder: Path) -> None:
    pictures = sorted(folder.glob("*.ppm"))
    with mp.Pool() as pool:
        # an exception stands in the place of its result
        results = pool.imap(shrink, pictures, on_error="return")
        for path, result in zip(pictures, results, strict=True):
            broken = "broken, " if isinstance(result, Exception) else ""
            print(f"{path.name}: {broken}{result}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            draw(Path(scratch))
            main(Path(scratch))
