"""What keeps daemonic children, and the children of daemonic ones, from outliving a parent that was killed.

The parent holds the only writing end of a pipe, and writes nothing. Each daemonic child has a reading end of its own,
set up (F_SETSIG) so that the kernel sends the child SIGKILL when something happens to the pipe. The one thing that ever
does: the last writing end is closed, because the parent is gone. No thread waits for that, and it does not matter which
thread of the parent started the child, as it would for PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .process import BaseProcess

__all__ = ["after_fork", "hold", "holds", "reader"]


class _Pipe:
    """This process's pipe, for its children; and right after a fork, what was copied from the parent's."""

    reader: int | None = None
    writer: int | None = None
    copy: int | None = None
    watches_forks = False


def reader() -> int:
    """The descriptor that a daemonic child of this process needs. It stays this process's."""
    if _Pipe.reader is None:
        if not _Pipe.watches_forks:
            os.register_at_fork(after_in_child=_leave_to_parent)
            _Pipe.watches_forks = True
        _Pipe.reader, _Pipe.writer = os.pipe()
    return _Pipe.reader


def holds(process_obj: BaseProcess) -> bool:
    """Whether a process's life is to be bound to its parent's: it is daemonic, or somebody above it is."""
    return process_obj.daemon or bool(process_obj._config.get("bound"))


def hold(fd: int) -> None:
    """In a daemonic child: binds this process's life to the parent's. Closes the descriptor that it was given."""
    import fcntl
    import select

    try:
        # a file of its own: the one that fd means is shared with the parent and all its children, and has but one owner
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a sandbox without /proc: as in multiprocessing, then
        return
    finally:
        os.close(fd)
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, fcntl.F_SETSIG, 9)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    poll = select.poll()
    poll.register(own, 0)
    if poll.poll(0):  # the parent died before the kernel knew whom to tell
        os.kill(os.getpid(), 9)


def after_fork(bound: bool) -> None:
    """In a child that was forked: what `hold` does, or if it is not bound, closes what it would have needed."""
    fd, _Pipe.copy = _Pipe.copy, None
    if fd is not None:
        (hold if bound else os.close)(fd)


def _leave_to_parent() -> None:
    """In every forked child, also of os.fork(): the writing end must be the parent's alone."""
    if _Pipe.writer is not None:
        os.close(_Pipe.writer)
        _Pipe.copy, _Pipe.reader, _Pipe.writer = _Pipe.reader, None, None
