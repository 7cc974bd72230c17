"""The exit code of a process that is not a child of this one."""

from __future__ import annotations

from contextlib import suppress
from struct import Struct

__all__ = ["exit_code"]

# `struct pidfd_info` of <linux/pidfd.h>, as it is since Linux 6.15, and PIDFD_GET_INFO of ioctl_pidfd(2)
_INFO = Struct("<QQ11Ii")
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
_EXIT = 1 << 3  # PIDFD_INFO_EXIT
_EXIT_CODE = 52 - 3  # the field `exit_code` of /proc/pid/stat, counted from behind the name


def exit_code(pidfd: int, pid: int) -> int | None:
    """Returns how a process has ended (-N: killed by signal N); None if that cannot be known.

    Its parent may have waited for it already. Then Linux tells the code since version 6.15. Before, the zombie in /proc
    has it.
    """
    status = _from_pidfd(pidfd)
    if status is None:
        status = _from_zombie(pid)
    if status is None:  # its parent has waited for it in between
        status = _from_pidfd(pidfd)
    if status is None:
        return None
    return -(status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


def _from_zombie(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        if fields[0] == b"Z":
            return int(fields[_EXIT_CODE])
    return None


def _from_pidfd(pidfd: int) -> int | None:
    import fcntl

    info = bytearray(_INFO.pack(_EXIT, *[0] * 13))
    with suppress(OSError):
        fcntl.ioctl(pidfd, _GET_INFO, info)
        mask, *_, status = _INFO.unpack(info)
        if mask & _EXIT:
            return int(status)
    return None
