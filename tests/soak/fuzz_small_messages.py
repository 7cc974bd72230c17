"""Feeds the decoder of small messages with bytes that nobody wrote. It may refuse them, and nothing else.

    python tests/soak/fuzz_small_messages.py --seconds 600

Starts from messages as they are written and changes, drops, repeats and splices bytes, from a seed that it prints. What
is decoded is encoded and decoded again, and must be the same. A crash ends the interpreter, so it cannot go unnoticed.
"""

from __future__ import annotations

import argparse
import random
import time

from procession._core import _decode_small, _encode_small


class Thing:
    """Something with a state."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"Thing({vars(self)})"


SEEDS = [
    None,
    (12345, "task", 0.5),
    {"a": [1, 2, (True, False, None)], "b": b"bytes", (1, 2): {"deep": [[[["down"]]]]}},
    [("x" * 100, -1, 2**62), "x" * 100, [], (), {}, b"", ""],
    [1.5, float("inf"), "ü€𝄞", {1: {2: {3: {4: 5}}}}],
]


def seeds() -> list[bytes]:
    """Messages to begin with."""
    shared = ["again", (1, 2)]
    trees = [*SEEDS, [shared, shared, shared[0]], Thing(1), [Thing({}), Thing(None)]]
    _encode_small(Thing(1))  # at which the class is looked at
    return [made for made in map(_encode_small, trees) if made is not None]


def mutated(message: bytes, other: bytes, dice: random.Random) -> bytes:
    """A message with a few things wrong with it."""
    data = bytearray(message)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if at < len(data):
                data[at] = dice.randrange(256)
            case 1 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                del data[at : at + dice.randrange(9)]
            case 3:
                data[at:at] = dice.randbytes(dice.randrange(9))
            case 4:
                data[at:at] = data[at : at + dice.randrange(20)]
            case _:
                data[at:] = other[dice.randrange(len(other) + 1) :]
    return bytes(data)


def fuzz(seconds: float, seed: int) -> tuple[int, int]:
    """Goes on for so many seconds; how many messages were tried, and how many of them could be decoded."""
    dice = random.Random(seed)
    pool = seeds()
    tried = decoded = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(500):
            message = mutated(dice.choice(pool), dice.choice(pool), dice)
            tried += 1
            try:
                obj = _decode_small(message)
            except (ValueError, TypeError, ImportError, AttributeError):  # a list as a key, a class that is none
                continue
            decoded += 1
            again = _encode_small(obj)
            if again is not None:
                assert repr(_decode_small(again)) == repr(obj), message
                if len(pool) < 2000:
                    pool.append(message)
    return tried, decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    tried, decoded = fuzz(options.seconds, options.seed)
    print(f"{tried} messages, {decoded} of them decoded, no crash")


if __name__ == "__main__":
    main()
