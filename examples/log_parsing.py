"""Counts the answers in the log of a web server, which may be bigger than
memory.

    python examples/log_parsing.py [FILE]

`imap` reads its input only as far as `buffersize` says: when eight blocks
of lines are under way, it waits until the program has taken a result.
Without a file, the program makes a log of its own.
"""

import itertools
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import procession as mp

# address, user, time and request, before the status
LINE = re.compile(r'^\S+ \S+ \S+ \[[^\]]+\] "[^"]*" (?P<status>\d{3}) ')
BLOCK, AHEAD = 1000, 8  # lines of a block; blocks under way


def count(lines: list[str]) -> Counter[str]:
    """Runs in a worker. Returns how often each status occurs in a block."""
    return Counter(
        found["status"] if (found := LINE.match(line)) else "no request"
        for line in lines
    )


class Log:
    """The blocks of a log, and how many of them were under way at most."""

    def __init__(self, path: str) -> None:
        self.path, self.read, self.counted, self.most = path, 0, 0, 0

    def __iter__(self) -> Iterator[list[str]]:
        with open(self.path, encoding="utf-8", errors="replace") as file:
            while block := list(itertools.islice(file, BLOCK)):
                self.read += 1
                self.most = max(self.most, self.read - self.counted)
                yield block


def main(path: str) -> None:
    log, total = Log(path), Counter()
    with mp.Pool() as pool:
        for counts in pool.imap_unordered(count, log, buffersize=AHEAD):
            log.counted += 1
            total.update(counts)
    for status, number in sorted(total.items()):
        print(f"{status}: {number}")
    # one more, as the loop counts a block a moment after it has got the
    # result
    print(f"never more than {AHEAD} blocks ahead: {log.most <= AHEAD + 1}")


def made() -> Iterator[str]:
    rng = random.Random(5)
    for number in range(50_000):
        status = rng.choices([200, 304, 404, 500], [80, 12, 7, 1])[0]
        request = f'"GET /page/{number % 97} HTTP/1.1"'
        yield f"10.0.0.1 - - [01/Jan/2026:00:00] {request} {status} 512\n"
    yield "a torn li"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".log") as scratch:
            scratch.writelines(made())
            scratch.flush()
            main(scratch.name)
