"""Reads family memory as an observer does: by the field table in its first page, and never through a mapping."""

from __future__ import annotations

import os
import struct

FIELDS, OFFSET = 64, (1 << 40) - 1


def _hash(name: str) -> int:
    number = 0x811C9DC5
    for byte in name.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number


class Memory:
    """The memory of the family of process `pid`."""

    def __init__(self, pid: int | str = "self") -> None:
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            try:
                if "memfd:procession" in os.readlink(path):
                    self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    break
            except OSError:  # it was closed meanwhile
                continue
        count = self.word(FIELDS + 16)
        entries = os.pread(self.fd, 8 * count, FIELDS + 24)
        self.entries = dict(struct.iter_unpack("<II", entries))

    def close(self) -> None:
        os.close(self.fd)

    def word(self, at: int) -> int:
        return int(struct.unpack("<Q", os.pread(self.fd, 8, at))[0])

    def number(self, name: str) -> int:
        return int(self.entries[_hash(name)])

    def place(self, name: str) -> int:
        """The offset of `Struct.field` in its struct."""
        return self.number(name) & 0xFFFF

    def field(self, at: int, name: str) -> int:
        return self.word(at + self.place(name))

    def label(self, at: int) -> tuple[str, str] | None:
        """Name and place of the object at this offset."""
        kind = self.field(at, "Header.tag") >> 16 & 0xFFFF
        in_waits = kind in (self.number("Kind.Array"), self.number("Kind.Pool"))
        return self.text(self.field(at, "Header.waits" if in_waits else "Header.resident"))

    def text(self, named: int) -> tuple[str, str] | None:
        """The text of the label that such a word names."""
        block = named & OFFSET
        if not block:
            return None
        length = self.field(block, "Header.operations")
        name, place = os.pread(self.fd, length, block + self.number("at.label")).split(b"\0")
        return name.decode(), place.decode()

    def seats(self) -> dict[int, int]:
        """The slots of living members: pid and offset."""
        slots = self.field(self.number("at.ledger"), "Ledger.slots")
        found = {}
        for number in range(slots):
            at = self.number("at.registry") + number * self.number("Slot")
            if self.field(at, "Slot.state") & 0xFFFFFFFF == self.number("State.Alive"):
                found[self.field(at, "Slot.who") & 0xFFFFFFFF] = at
        return found

    def waits(self, pid: int) -> list[dict[str, int]]:
        """What the threads of a member wait for."""
        found = []
        block = self.field(self.seats()[pid], "Slot.waits")
        size = self.number("WaitRecord")
        while block:
            for at in range(block + self.place("WaitsBlock.records"), block + self.number("WaitsBlock"), size):
                thread = self.field(at, "WaitRecord.thread")
                if thread & 0xFFFFFFFF:
                    names = ("object", "since", "seen", "deadline", "detail")
                    record = {name: self.field(at, f"WaitRecord.{name}") for name in names}
                    found.append({"thread": thread >> 32, "what": thread & 0xFFFFFFFF, **record})
            block = self.field(block, "WaitsBlock.next")
        return found
