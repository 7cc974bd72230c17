"""The beginning of a process that a client has started on a node. Here the program's bytes are unpickled."""

from __future__ import annotations

import os
import sys

from .. import process
from . import pickling, sync, uploads
from .streams import LONGEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging

__all__ = ["record_of", "run"]


def run(node: str, pickled: bytes, folder: str, relay: str, *, level: int, fds: list[int]) -> None:
    """Runs the client's Process object in this process.

    Args:
        node: the name of the node, for errors.
        pickled: the Process object.
        folder: of uploads.
        relay: the address of the node's relay, see `sync`.
        level: the level of the client's root logger.
        fds: pipes for standard output, standard error and log records; empty: they stay the node's.
    """
    if fds:
        for number, fd in enumerate(fds[:2], 1):
            os.dup2(fd, number)
            os.close(fd)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a process of ours has both
        _send_log(fds[2], level)
    uploads.append(folder)
    sync.relay_of_node = relay
    try:
        theirs = pickling.loads(pickled)
    except Exception as error:
        from .worker import unreadable

        raise unreadable(error, node) from None
    _become(theirs)
    theirs.run()


def _become(theirs: process.BaseProcess) -> None:
    """Makes the client's object the current process, in the place of the one that the node has made."""
    ours = process.current_process()
    theirs._config = {**ours._config, **theirs._config}
    theirs._parent_pid = ours._parent_pid
    theirs._popen = None
    process._current_process = theirs


def _send_log(fd: int, level: int) -> None:
    """Sends the records of all loggers through a socket. Each is one packet, so forked children may send as well."""
    import logging

    def emit(self: logging.Handler, record: logging.LogRecord) -> None:
        try:
            os.write(fd, _packed(record))
        except Exception:
            self.handleError(record)

    root = logging.getLogger()
    root.addHandler(type("LogSender", (logging.Handler,), {"emit": emit})())
    root.setLevel(level)


def _packed(record: logging.LogRecord) -> bytes:
    """Returns a record as bytes: its text is formatted here, since its arguments may be objects of any kind."""
    import pickle
    from traceback import format_exception

    plain = {key: value for key, value in record.__dict__.items() if type(value) in _PLAIN}
    text, trace = record.getMessage(), record.exc_text
    if trace is None and record.exc_info and record.exc_info[0]:
        trace = "".join(format_exception(*record.exc_info)).rstrip("\n")
    plain.update(msg=_shortened(text), args=None, exc_text=None if trace is None else _shortened(trace))
    packed = pickle.dumps(plain)
    if len(packed) > LONGEST:  # by what the program has added
        packed = pickle.dumps({key: plain[key] for key in (*_KEPT, "msg", "args", "exc_text")})
    return packed


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}... ({len(text) - _MOST} more characters)"


_PLAIN = (str, int, float, bool, type(None))
_MOST = LONGEST // 16  # characters, of up to four bytes
_KEPT = "name", "levelno", "levelname", "created", "msecs", "process", "processName", "lineno"


def record_of(packed: bytes) -> logging.LogRecord:
    """Returns the log record that a child has sent."""
    import logging
    import pickle

    return logging.makeLogRecord(pickle.loads(packed))
