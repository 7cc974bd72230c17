"""The program of the watcher: see `resource_tracker`.

It reads lines `COMMAND:name:type` from a pipe until nobody has the other end any more, and removes what is left then.
In family memory it is listed as the one that listens. So that no message is lost when it ends, it strikes itself off
first, and then looks into the pipe once more; who sends a message looks at the list afterwards.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from time import monotonic

from .. import _core
from ..resource_tracker import _CLEANUP_FUNCS, _unquoted
from . import segments

__all__ = ["watch"]

IDLE = 10.0  # seconds after which it ends, where there was something to watch and is no more
MUCH = 1 << 16


class _Charge:
    """A name in the watcher's care."""

    def __init__(self, name: str, rtype: str) -> None:
        # in use as long as the family may want it, so that nobody else takes it for a remnant
        self.fd = segments.hold(name) if rtype == "shared_memory" else None
        self.ours = False  # made by the family, and not only attached to

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

    def run(self) -> int:
        """Until the end. Returns the exit code: 1 if anything was left behind."""
        os.set_blocking(self.fd, False)
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        due = 0.0
        while True:
            ready = poll.poll(max(0.0, due - monotonic()) * 1000 if self.had_some else None)
            # what was asked for meanwhile, and not whether it is asked if there is a watcher
            busy = self.charges or self.listing is None or not self.had_some
            if ready and self.read():
                if busy or self.charges:
                    due = monotonic() + IDLE
                if monotonic() < due or not self.had_some:
                    continue
            elif not ready and busy:
                self.look_round()
                due = monotonic() + IDLE
                continue
            # everybody has gone, or nobody wants anything
            if self.listing is not None:
                self.listing.unregister()
                if self.read():
                    self.listing.register()
                    continue
            break
        return self.clean_up()

    def read(self) -> bool:
        """Whether there was anything to read."""
        try:
            data = os.read(self.fd, MUCH)
        except BlockingIOError:
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            try:
                self.act(line.decode("utf-8", "surrogateescape"))
            except Exception as error:  # one odd message must not cost the others their watcher
                sys.excepthook(type(error), error, error.__traceback__)
        return bool(data)

    def act(self, line: str) -> None:
        command, name, rtype = line.split(":")
        if command == "PROBE":
            return
        if rtype not in _CLEANUP_FUNCS:
            raise ValueError(f"cannot watch {name!r}: nothing is known of the type {rtype!r}")
        key = (_unquoted(name), rtype)
        if command == "UNREGISTER":
            if charge := self.charges.pop(key, None):
                charge.let_go()
            return
        if command not in ("REGISTER", "ATTACH"):
            raise RuntimeError(f"the watcher does not know the command {command!r}")
        charge = self.charges.get(key) or self.charges.setdefault(key, _Charge(*key))
        charge.ours |= command == "REGISTER"
        self.had_some = True

    def look_round(self) -> None:
        """Lets go of segments that another program has removed, so that their memory is freed."""
        for charge in self.charges.values():
            if charge.fd is not None and os.fstat(charge.fd).st_nlink == 0:
                charge.let_go()

    def clean_up(self) -> int:
        from warnings import warn

        for rtype in _CLEANUP_FUNCS:
            left = {name: charge for (name, of), charge in self.charges.items() if of == rtype}
            if left and rtype != "dummy":  # tests leave these behind on purpose
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
    """Has these standard streams lead to /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in streams:
        os.dup2(nowhere, stream)
    if nowhere > 2:
        os.close(nowhere)


def watch(fd: int, family_fd: int | None) -> None:
    """Watches, and exits."""
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    os.set_inheritable(fd, False)
    listing = None
    if family_fd is not None:
        os.set_inheritable(family_fd, False)
        listing = _core.TrackerListing(family_fd, fd)
    # who reads what the program prints waits until everybody has closed it, and closing sys.stdout does not
    _to_nowhere(0, 1)
    segments.sweep()
    sys.exit(_Watch(fd, listing).run())
