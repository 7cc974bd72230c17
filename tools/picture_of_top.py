"""Makes docs/pictures/top.svg, a picture of `procession top`: a program at work, looked at in a terminal.

    .venv/bin/python tools/picture_of_top.py [FILE]

It runs this file as the program, starts `procession top` in a terminal of its own, waits until the streams are full,
and writes what the terminal shows as text in an SVG. The package `pyte` emulates the terminal.
"""

from __future__ import annotations

import os
import random
import re
import select
import subprocess
import sys
import termios
import time
from html import escape
from pathlib import Path

import pyte

ROWS, COLUMNS = 25, 100
WIDTH, HEIGHT = 8.4, 17  # of a character, in pixels
SECONDS = 12.0  # of the program, before the picture is taken
COLOURS = {  # of the first colours of a terminal, as pyte names them
    "cd0000": "#e06c75",
    "00cd00": "#98c379",
    "cdcd00": "#e5c07b",
    "0000ee": "#61afef",
    "cd00cd": "#c678dd",
    "00cdcd": "#56b6c2",
}
FOREGROUND, BACKGROUND = "#d7dae0", "#1e2127"
SHADES = {"█": 1.0, "▓": 0.75, "▒": 0.5, "░": 0.25}


# --- the program ------------------------------------------------------------------------------------------------------


def decode(number: int) -> int:
    """Pretends to decode an image: takes a while, part of it with the lock of the index."""
    import procession as mp

    chance = random.Random(number)
    steps = chance.randrange(4, 12)
    for step in range(steps):
        mp.report_progress(step, steps)
        time.sleep(chance.uniform(0.02, 0.12))
        with INDEX:
            time.sleep(0.012)
    return number


def fill(queue: object) -> None:
    """Puts messages a little faster than they are taken."""
    while True:
        queue.put(b"page")  # type: ignore[attr-defined]
        time.sleep(0.011)


def empty(queue: object) -> None:
    """Takes messages."""
    while True:
        queue.get()  # type: ignore[attr-defined]
        time.sleep(0.014)


def program() -> None:
    """Runs a pool, and a queue between two processes."""
    import procession as mp

    global INDEX  # noqa: PLW0603 (forked workers have it)
    context = mp.get_context("fork")
    INDEX = context.Lock(name="index")
    pages = context.Queue(10_000, name="pages")
    for target, name in ((fill, "crawler"), (empty, "parser")):
        context.Process(target=target, args=(pages,), name=name, daemon=True).start()
    with context.Pool(4, name="loader") as pool:
        pool.map(decode, range(400), chunksize=1)


# --- the picture ------------------------------------------------------------------------------------------------------


def screen_of(pid: int) -> pyte.Screen:
    """Runs `procession top` for a while and returns what its terminal shows."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (ROWS, COLUMNS))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    top = subprocess.Popen(
        [sys.executable, "-m", "procession.inspect", "top", str(pid)],
        stdin=slave,
        stdout=slave,
        env={**environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            stream.feed(os.read(master, 65536))
    top.kill()
    top.wait()
    return screen


def svg(screen: pyte.Screen) -> str:
    """Draws the characters of a screen. Blocks are rectangles, so that no font leaves gaps between them."""
    width, height = COLUMNS * WIDTH + 24, ROWS * HEIGHT + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}"'
        f' viewBox="0 0 {width:.0f} {height}" role="img" aria-label="A screen of procession top">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">',
    ]
    for row in range(ROWS):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        top = 12 + row * HEIGHT
        column = 0
        while column < COLUMNS:
            first = cells[column]
            style = (first.fg, first.bold, first.reverse, SHADES.get(first.data))
            end = column
            while end < COLUMNS:
                cell = cells[end]
                if (cell.fg, cell.bold, cell.reverse, SHADES.get(cell.data)) != style:
                    break
                end += 1
            text = "".join(cell.data for cell in cells[column:end])
            left, long = 12 + column * WIDTH, (end - column) * WIDTH
            colour = COLOURS.get(first.fg, FOREGROUND)
            if first.reverse:
                out.append(f'<rect x="{left:.1f}" y="{top}" width="{long:.1f}" height="{HEIGHT}" fill="{FOREGROUND}"/>')
                colour = BACKGROUND
            if style[3] is not None:
                opacity = "" if style[3] == 1.0 else f' opacity="{style[3]}"'
                out.append(
                    f'<rect x="{left:.1f}" y="{top + 2}" width="{long:.1f}" height="{HEIGHT - 4}"'
                    f' fill="{colour}"{opacity}/>'
                )
            else:
                bold = ' font-weight="bold"' if first.bold else ""
                # Each word has its place: not all programs keep spaces.
                for word in re.finditer(r"\S+", text):
                    x, long = left + word.start() * WIDTH, len(word[0]) * WIDTH
                    out.append(
                        f'<text x="{x:.1f}" y="{top + 13}" textLength="{long:.1f}" fill="{colour}"{bold}>'
                        f"{escape(word[0])}</text>"
                    )
            column = end
    out += ["</g>", "</svg>", ""]
    return "\n".join(out)


def main() -> None:
    """Runs the program, or makes the picture of it."""
    if sys.argv[1:] == ["--program"]:
        program()
        return
    path = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "docs" / "pictures" / "top.svg"
    running = subprocess.Popen([sys.executable, __file__, "--program"])
    try:
        time.sleep(1.0)
        screen = screen_of(running.pid)
    finally:
        running.terminate()
        running.wait()
    text = "\n".join(screen.display)
    if 'pool "loader"' not in text:
        sys.exit(f"the picture does not show the program:\n{text}")
    path.write_text(svg(screen))
    print(text)


if __name__ == "__main__":
    main()
