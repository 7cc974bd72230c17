"""The program of the resource tracker: see `resource_tracker`.

It reads lines `COMMAND:name:type` from a pipe until all other ends are closed, and then removes the names that are
left. A message wakes it at most every few milliseconds: then it reads all that have come, and does not open the
segments that are gone already.

Family memory lists it as the tracker that reads. So that no message is lost when it ends, it first removes itself from
the list, and then reads the pipe once more; a process that sends a message looks at the list afterwards.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from time import monotonic

from .. import _core
from ..resource_tracker import _CLEANUP_FUNCS, _unquoted
from . import segments

__all__ = ["watch"]

IDLE = 10.0  # seconds without names after which it ends, if it had some before
MUCH = 1 << 20  # bytes; those of the pipe as well, if the system allows it
NAP = 10  # milliseconds
BIG = 1 << 20  # bytes of a segment beside which it does not nap: the memory is free only when it has closed it


class _Charge:
    """A name that the tracker looks after."""

    def __init__(self, name: str, rtype: str) -> None:
        # counts as a use as long as the family may need it, so that other trackers do not take it for a remnant
        self.fd = segments.hold(name) if rtype == "shared_memory" else None
        self.is_big = self.fd is not None and os.fstat(self.fd).st_size >= BIG
        self.ours = False  # the family has made it, and not only attached to it

    def let_go(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class _Watch:
    def __init__(self, fd: int, listing: _core.TrackerListing | None) -> None:
        self.fd = fd
        self.listing = listing
        self.rest = b""
        self.had_some = False
        self.charges: dict[tuple[str, str], _Charge] = {}
        self.big: set[tuple[str, str]] = set()
        self.ends = select.poll()
        self.ends.register(fd, 0)  # only that there is no client any more

    def run(self) -> int:
        """Runs until the end. Returns the exit code: 1 if a name was left."""
        os.set_blocking(self.fd, False)
        with suppress(OSError):
            fcntl(self.fd, F_SETPIPE_SZ, MUCH)
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        due = 0.0
        while True:
            ready = poll.poll(max(0.0, due - monotonic()) * 1000 if self.had_some else None)
            # a request counts, but not a probe whether there is a tracker
            busy = self.charges or self.listing is None or not self.had_some
            if ready and self.read():
                self.nap()
                if busy or self.charges:
                    due = monotonic() + IDLE
                if monotonic() < due or not self.had_some:
                    continue
            elif not ready and busy:
                self.look_round()
                due = monotonic() + IDLE
                continue
            # all clients have gone, or none needs the tracker
            if self.listing is not None:
                self.listing.unregister()
                if self.read():
                    self.listing.register()
                    continue
            break
        return self.clean_up()

    def read(self) -> bool:
        """Reads messages. Returns whether there were any."""
        try:
            data = os.read(self.fd, MUCH)
        except BlockingIOError:
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in self.still_valid(lines):
            try:
                self.act(line.decode("utf-8", "surrogateescape"))
            except Exception as error:  # one wrong message must not end the tracker
                sys.excepthook(type(error), error, error.__traceback__)
        return bool(data)

    def still_valid(self, lines: list[bytes]) -> list[bytes]:
        """Returns these messages without those about names that a later one of them unregisters."""
        kept, unregistered = [], set()
        for line in reversed(lines):
            command, _, subject = line.partition(b":")
            if subject in unregistered:
                self.had_some = True
                continue
            if command == b"UNREGISTER":
                unregistered.add(subject)
            kept.append(line)
        return kept[::-1]

    def nap(self) -> None:
        """Waits a while for further messages, unless all clients have gone."""
        if not self.big:
            self.ends.poll(NAP)

    def act(self, line: str) -> None:
        command, name, rtype = line.split(":")
        if command == "PROBE":
            return
        if rtype not in _CLEANUP_FUNCS:
            raise ValueError(f"cannot track {name!r}: the type {rtype!r} is unknown")
        key = (_unquoted(name), rtype)
        if command == "UNREGISTER":
            if charge := self.charges.pop(key, None):
                charge.let_go()
            self.big.discard(key)
            return
        if command not in ("REGISTER", "ATTACH"):
            raise RuntimeError(f"the resource tracker does not know the command {command!r}")
        charge = self.charges.get(key) or self.charges.setdefault(key, _Charge(*key))
        charge.ours |= command == "REGISTER"
        if charge.is_big:
            self.big.add(key)
        self.had_some = True

    def look_round(self) -> None:
        """Closes segments that another program has removed, so that their memory is freed."""
        for charge in self.charges.values():
            if charge.fd is not None and os.fstat(charge.fd).st_nlink == 0:
                charge.let_go()

    def clean_up(self) -> int:
        from warnings import warn

        for rtype in _CLEANUP_FUNCS:
            left = {name: charge for (name, of), charge in self.charges.items() if of == rtype}
            if left and rtype != "dummy":  # tests leave these intentionally
                warn(
                    f"resource_tracker: There appear to be {len(left)} leaked {rtype} objects to clean up at shutdown: "
                    f"{set(left)}",
                    stacklevel=2,
                )
            for name, charge in left.items():
                try:
                    self.remove(name, rtype, charge)
                except Exception as error:
                    warn(f"resource_tracker: {name!r}: {error}", stacklevel=2)
        return 1 if self.charges else 0

    def remove(self, name: str, rtype: str, charge: _Charge) -> None:
        if charge.ours or rtype != "shared_memory":
            charge.let_go()
            _CLEANUP_FUNCS[rtype](name)
        elif charge.fd is not None:
            fd, charge.fd = charge.fd, None
            segments.unlink_unless_used(segments.path_of(name), fd)


def _to_nowhere(*streams: int) -> None:
    """Connects these standard streams to /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in streams:
        os.dup2(nowhere, stream)
    if nowhere > 2:
        os.close(nowhere)


def watch(fd: int, family_fd: int | None) -> None:
    """Runs the tracker, and exits."""
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    os.set_inheritable(fd, False)
    listing = None
    if family_fd is not None:
        os.set_inheritable(family_fd, False)
        listing = _core.TrackerListing(family_fd, fd)
    # a reader of the program's output waits until all processes have closed it, and closing sys.stdout does not do that
    _to_nowhere(0, 1)
    segments.sweep()
    sys.exit(_Watch(fd, listing).run())
