"""Worlds in which programs run: with fewer rights, in namespaces, in sandboxes. For programs that tests start."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000

# numbers of system calls: x86-64, aarch64
_CALLS = {
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "fallocate": (285, 47),
    "eventfd2": (290, 19),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "memfd_create": (319, 279),
    "futex_waitv": (449, 449),
}


def _checked(answer: int) -> None:
    if answer:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def become_nobody() -> None:
    """Becomes another user, for good."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def may_not_open_mappings() -> None:
    """Stays root, without the rights that open `/proc/self/map_files`: so far, as any other user."""
    without = (1 << 21) | (1 << 40)  # CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(libc.capget(header, data))
    for half in (0, 1):
        mask = ~(without >> 32 * half) & 0xFFFFFFFF
        for place in range(3 * half, 3 * half + 3):
            data[place] &= mask
    for capability in (21, 40):
        _checked(libc.prctl(24, capability, 0, 0, 0))  # PR_CAPBSET_DROP: what is executed gets them back otherwise
    _checked(libc.capset(header, data))


def leave_pid_namespace() -> None:
    """Children from now on are in a new PID namespace."""
    _checked(libc.unshare(CLONE_NEWPID))


def mount_own_proc() -> None:
    """A `/proc` of this process's PID namespace, for it and its children."""
    _checked(libc.unshare(CLONE_NEWNS))
    _checked(libc.mount(None, b"/", None, 0x84000, None))  # MS_REC | MS_PRIVATE
    _checked(libc.mount(b"proc", b"/proc", b"proc", 0, None))


def refuse(*names: str, error: int = 1) -> None:
    """From now on this process and its children get that error (EPERM) from these system calls, as in a sandbox."""
    numbers = [_CALLS[name][platform.machine() != "x86_64"] for name in names]
    program = [(0x20, 0, 0, 0)]  # load the number of the call
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        program.append((0x15, left, 0, number))  # equal: jump to the refusal
    program += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | error)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code)
    filters = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    _checked(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    _checked(libc.prctl(22, 2, ctypes.create_string_buffer(filters), 0, 0))  # PR_SET_SECCOMP
