"""Named segments as files: their folder, and how to find out whether a process uses a segment.

A process that uses a segment holds a shared `flock` on it. The kernel drops the lock when the last mapping or
descriptor of that `open` is gone, however the process ended. So a process gets an exclusive lock only if no other uses
the segment. A segment that is tracked has the sticky bit (which means nothing else on a file). Users of other segments,
of the standard library and of other programs, hold no locks; without the bit these segments are never taken for unused.

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
ASK_FIRST = 8 << 20  # size in bytes from which on the memory of the machine is checked first
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


def path_of(name: str) -> str:
    """Returns the file of the segment with this name. OSError: the name is not possible, as with shm_open."""
    plain = name.lstrip("/")
    if not plain or "/" in plain or plain in (".", ".."):
        raise OSError(errno.EINVAL, "not a name for a segment of shared memory", name)
    return f"{FOLDER}/{plain}"


def create(name: str, size: int, flags: int, mode: int, looked_after: bool) -> int:
    """Makes a segment of `size` bytes, whose memory is reserved. Returns its descriptor.

    looked_after: all users of the segment hold locks, so it may be removed when there is none.
    FileExistsError: there is one of that name. OSError: there is not enough memory, or no folder for segments.
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
    """Opens an existing segment. Returns its descriptor. FileNotFoundError: there is none."""
    path = path_of(name)
    fd = os.open(path, flags | _FLAGS, mode)
    _use(fd)
    if os.fstat(fd).st_nlink == 0:  # unlinked before another process could see this use of it
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return fd


def fill_streams(fd: int) -> list[int]:
    """Opens descriptors with the numbers of closed standard streams, usually none. The caller closes them.

    While they exist the segment with this descriptor can be mapped: older Pythons keep a copy of the descriptor, and
    output of C code must not be written into the segment.
    """
    fillers = []
    number = fd
    while number <= 2:
        number = os.open(os.devnull, os.O_RDONLY)
        fillers.append(number)
    return fillers


def unlink(name: str) -> None:
    """Removes the name. The memory stays until its last mapping is gone. FileNotFoundError: there is none."""
    os.unlink(path_of(name))


def hold(name: str) -> int | None:
    """Returns a descriptor that counts as a use of the segment; None if it cannot be opened."""
    try:
        return attach(name, os.O_RDONLY, 0)
    except (OSError, ValueError):
        return None


def unlink_unless_used(path: str, fd: int | None = None) -> bool:
    """Removes a segment that no process uses. Returns whether it did. fd: an own use of it, which this call ends."""
    own = os.open(path, os.O_RDONLY | _FLAGS) if fd is None else fd
    try:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        there = os.stat(path, follow_symlinks=False)
        if (there.st_dev, there.st_ino) != (os.fstat(own).st_dev, os.fstat(own).st_ino):
            return False  # another segment has this name by now
        os.unlink(path)
        return True
    finally:
        os.close(own)


def sweep(older_than: float = 60.0) -> list[str]:
    """Removes the tracked segments of this user whose users and trackers were all killed. Returns their names.

    older_than: seconds since the segment was made; after that time its tracker has opened it.
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
            continue  # another process has removed it
    return swept


def _use(fd: int) -> None:
    try:  # noqa: SIM105 (importing contextlib takes a millisecond)
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # a process is removing it now, or uses flock for its own purposes
        pass


def _reserve(fd: int, size: int, path: str) -> None:
    from .. import _core

    left = _core.memory_left() if size >= ASK_FIRST else None
    if left is not None and left < size:
        raise OSError(errno.ENOMEM, f"no memory for a segment of {size} bytes: {left} are left", path)
    try:
        # if the memory of a hole cannot be allocated later, the process that writes there gets SIGBUS
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
