"""Named segments as files: the folder they are in, and how it is known whether anybody uses one.

Whoever uses a segment holds a shared `flock` on it: the kernel drops it when the last mapping or descriptor that came
of that `open` is gone, however its process ended. So an exclusive one is to be had only where there is no user left.
A segment that was made to be looked after has the sticky bit (which means nothing else on a file), so that the
segments of the standard library and of other programs, whose users hold no locks, are never taken for unused ones.

References: shm_overview(7), flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

__all__ = ["FOLDER", "attach", "create", "path_of", "sweep", "unlink", "unlink_unless_used"]

FOLDER = "/dev/shm"
ASK_FIRST = 8 << 20  # bytes, from which on it is asked what the machine has left
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


def path_of(name: str) -> str:
    """The file of the segment with this name. OSError: it is not a possible name, as with shm_open."""
    plain = name.lstrip("/")
    if not plain or "/" in plain or plain in (".", ".."):
        raise OSError(errno.EINVAL, "not a name for a segment of shared memory", name)
    return f"{FOLDER}/{plain}"


def create(name: str, size: int, flags: int, mode: int, looked_after: bool) -> int:
    """A descriptor of a new segment of so many bytes, whose memory is reserved.

    looked_after: whether all of its users hold locks, so that it may be removed when none is left.
    FileExistsError: there is one of that name. OSError: there is no room, or no folder for segments.
    """
    path = path_of(name)
    try:
        fd = os.open(path, flags | _FLAGS, mode | stat.S_ISVTX if looked_after else mode)
    except OSError as error:
        raise _explained(error, path) from None
    try:
        _use(fd)
        _reserve(fd, size, path)
    except BaseException:
        os.close(fd)
        os.unlink(path)
        raise
    return fd


def attach(name: str, flags: int, mode: int) -> int:
    """A descriptor of an existing segment. FileNotFoundError: there is none."""
    path = path_of(name)
    fd = os.open(path, flags | _FLAGS, mode)
    _use(fd)
    if os.fstat(fd).st_nlink == 0:  # unlinked before it was seen that somebody uses it
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return fd


def fill_streams(fd: int) -> list[int]:
    """Descriptors, for the caller to close, with the numbers of the standard streams that are closed; none as a rule.

    While they are there the segment with this descriptor can be mapped: older Pythons keep a copy of it, and what C
    code prints must not be written into the segment.
    """
    fillers = []
    number = fd
    while number <= 2:
        number = os.open(os.devnull, os.O_RDONLY)
        fillers.append(number)
    return fillers


def unlink(name: str) -> None:
    """Removes the name. The memory stays until the last mapping of it is gone. FileNotFoundError: there is none."""
    os.unlink(path_of(name))


def hold(name: str) -> int | None:
    """A descriptor that counts as a use of the segment; None if that is not to be had."""
    try:
        return attach(name, os.O_RDONLY, 0)
    except (OSError, ValueError):
        return None


def unlink_unless_used(path: str, fd: int | None = None) -> bool:
    """Removes a segment that nobody uses; whether it did. fd: an own use of it, which is given up."""
    own = os.open(path, os.O_RDONLY | _FLAGS) if fd is None else fd
    try:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        there = os.stat(path, follow_symlinks=False)
        if (there.st_dev, there.st_ino) != (os.fstat(own).st_dev, os.fstat(own).st_ino):
            return False  # it is another one by now
        os.unlink(path)
        return True
    finally:
        os.close(own)


def sweep(older_than: float = 60.0) -> list[str]:
    """Removes the segments of this user that were looked after, and whose users and watchers are all gone: killed.

    older_than: in seconds since it was made; by then its watcher has noted that it uses it. Returns their names.
    """
    swept: list[str] = []
    try:
        entries = list(os.scandir(FOLDER))
    except OSError:
        return swept
    for entry in entries:
        try:
            about = entry.stat(follow_symlinks=False)
            if (
                stat.S_ISREG(about.st_mode)
                and about.st_mode & stat.S_ISVTX
                and about.st_uid == os.geteuid()
                and time.time() - about.st_ctime >= older_than
                and unlink_unless_used(entry.path)
            ):
                swept.append(entry.name)
        except OSError:
            continue  # somebody else has removed it meanwhile
    return swept


def _use(fd: int) -> None:
    try:  # noqa: SIM105 (contextlib takes a millisecond to import)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # somebody is just removing it, or uses flock for ends of his own
        pass


def _reserve(fd: int, size: int, path: str) -> None:
    from .. import _core

    left = _core.memory_left() if size >= ASK_FIRST else None
    if left is not None and left < size:
        raise OSError(errno.ENOMEM, f"no memory for a segment of {size} bytes: {left} are left", path)
    try:
        # a hole that cannot be filled later would be a SIGBUS in whoever writes there first
        _core.reserve_file(fd, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, f"no room for a segment of {size} bytes in {FOLDER}", path) from None


def _explained(error: OSError, path: str) -> OSError:
    if isinstance(error, FileExistsError) or (os.path.isdir(FOLDER) and os.access(FOLDER, os.W_OK | os.X_OK)):
        return error
    why = "is missing" if not os.path.isdir(FOLDER) else "cannot be written to"
    return OSError(
        error.errno,
        f"named shared memory needs {FOLDER}, which {why} ({os.strerror(error.errno or 0)}); values, arrays and "
        "queues do not",
        path,
    )
