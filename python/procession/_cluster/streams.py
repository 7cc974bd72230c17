"""Reads what a process writes into pipes, in the loop of the node that runs it, and passes it on in whole pieces."""

from __future__ import annotations

import asyncio
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

__all__ = ["LONGEST", "Lines", "Records", "Stream"]

LONGEST = 1 << 17  # maximum number of bytes of a record
_LONGEST_LINE = 1 << 20  # a longer line is passed on in parts


class Stream:
    """The reading end of a pipe or socket."""

    def __init__(self) -> None:
        self._fd = -1
        self._wake = asyncio.Event()
        self._last = False

    def open(self, fd: int) -> None:
        """Takes the descriptor. From any thread."""
        os.set_blocking(fd, False)
        self._fd = fd

    def close(self) -> None:
        """Closes the pipe."""
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def finish(self) -> None:
        """Makes `run` return when it has read what is in the pipe now, also if another process has the writing end."""
        self._last = True
        self._wake.set()

    async def run(self, say: Callable[..., Awaitable[None]]) -> None:
        """Passes on what is written, until the last writer has closed the pipe. say: sends a message to the client."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                piece = os.read(self._fd, LONGEST)
            except BlockingIOError:
                if self._last:
                    break
                loop.add_reader(self._fd, self._wake.set)
                await self._wake.wait()
                loop.remove_reader(self._fd)
                self._wake.clear()
                continue
            if not piece:
                break
            message = self._taken(piece)
            if message:
                await say(*message)
        message = self._left()
        if message:
            await say(*message)

    def _taken(self, piece: bytes) -> tuple[Any, ...]:
        """Takes what was read. Returns a message for the client; empty: there is nothing to say yet."""
        raise NotImplementedError

    def _left(self) -> tuple[Any, ...]:
        """Returns the message of what is left at the end."""
        return ()


class Lines(Stream):
    """Standard output (1) or standard error (2): passes on whole lines."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._rest = b""

    def _taken(self, piece: bytes) -> tuple[Any, ...]:
        self._rest += piece
        end = self._rest.rfind(b"\n") + 1
        if end == 0 and len(self._rest) >= _LONGEST_LINE:
            end = _end_of_text(self._rest)
        whole, self._rest = self._rest[:end], self._rest[end:]
        return ("output", self._number, whole) if whole else ()

    def _left(self) -> tuple[Any, ...]:
        return ("output", self._number, self._rest) if self._rest else ()


def _end_of_text(text: bytes) -> int:
    """Returns where to cut a long line: not inside a character of UTF-8, if it is such text."""
    for back in range(1, 5):
        byte = text[-back]
        if byte < 0x80:  # ASCII
            break
        if byte >= 0xC0:  # the first byte of a character: of two, three or four
            whole = 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return len(text) - back if back < whole else len(text)
    return len(text)


class Records(Stream):
    """Log records, from a socket that keeps their bounds (SOCK_SEQPACKET): each is there as a whole, or not at all."""

    def _taken(self, piece: bytes) -> tuple[Any, ...]:
        return "log", piece
