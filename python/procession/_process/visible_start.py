"""Starts programs so that tools which watch child processes see them.

Debuggers and tracers replace some functions of Python to learn of each program that is started, and to change its
command line. If no tool has replaced any, programs are started in Rust; otherwise with the replaced function.
"""

from __future__ import annotations

import os
import sys

from .. import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["audit", "start", "started", "watched"]

_BUILTIN = type(len)


def watched() -> bool:
    """Returns whether a tool has replaced a function with which Python starts programs."""
    return _spawnv_passfds() is not None or _replaced() is not None


def _spawnv_passfds() -> Any:
    """Returns the function that has replaced `util.spawnv_passfds`, here or in the standard library; else None."""
    from .. import util

    if util.spawnv_passfds is not util._spawnv_passfds:
        return util.spawnv_passfds
    theirs = sys.modules.get("multiprocessing.util")
    found = getattr(theirs, "spawnv_passfds", None)
    # the module's own function looks up names in the module
    return found if found is not None and getattr(found, "__globals__", None) is not vars(theirs) else None


def _replaced() -> Any:
    """Returns the replaced function of Python that starts programs; None if none was replaced."""
    module = sys.modules.get("_posixsubprocess")  # a tool that has replaced its function has imported it
    for found in (getattr(module, "fork_exec", None), getattr(os, "posix_spawn", None)):
        if found is not None and type(found) is not _BUILTIN:
            return found
    return None


def audit(command: Sequence[str | bytes]) -> None:
    """Raises the audit event of a program that multiprocessing starts. A hook that raises prevents the start."""
    sys.audit("_posixsubprocess.fork_exec", [command[0]], list(command), None)


def start(command: list[str | bytes], fds: list[int], seen: bool) -> tuple[int, int]:
    """Runs a program of ours. Returns its pid, and a pidfd or -1. OSError: it could not be started.

    Its descriptors have the numbers 3, 4 and so on; with `seen` the numbers that they have here, since a tool may add
    some.
    """
    audit(command)
    if not seen:
        return _core.spawn_held(command[0], command, fds)
    from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask

    from .. import util

    # as in _core.spawn: the program unblocks SIGINT when it is ready for Ctrl-C
    before = pthread_sigmask(SIG_BLOCK, (SIGINT,))
    try:
        return (_spawnv_passfds() or util.spawnv_passfds)(command[0], command, fds), -1
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def started(path: str | bytes, args: Sequence[str | bytes], fds: Iterable[int]) -> int:
    """Does the work of `util.spawnv_passfds`."""
    function = _replaced()
    arguments = _with_alias(args)
    numbers = sorted(set(map(int, fds)))
    if function is None:
        return _core.spawn(path, arguments, numbers, numbers)
    if function is getattr(os, "posix_spawn", None):
        return _by_posix_spawn(path, arguments, numbers)
    return _by_fork_exec(path, arguments, numbers)


def _with_alias(args: Sequence[str | bytes]) -> list[str | bytes]:
    """Returns the command with our alias for a tool that puts itself before a child of ours.

    A tracer makes `python -m tracer … -c CODE` of `python -c CODE`, and imports multiprocessing before CODE can install
    the alias.
    """
    from .. import _alias

    words = list(args)
    if _alias.installed() and "-c" in words and "-m" in words[: words.index("-c")]:
        words[words.index("-m") : words.index("-m")] = ["-m", _alias.OURS]
    return words


def _by_fork_exec(path: str | bytes, args: list[str | bytes], fds: list[int]) -> int:
    import _posixsubprocess
    import subprocess

    fork_exec: Any = _posixsubprocess.fork_exec
    # from Python 3.14 on there is no argument for vfork
    vfork = [] if sys.version_info >= (3, 14) else [getattr(subprocess, "_USE_VFORK", True)]
    reader, writer = os.pipe()
    try:
        # no change of folder, environment, standard streams, session, group or user
        unchanged = (None, None, -1, -1, -1, -1, -1, -1, reader, writer, False, False, -1, None, None, None, -1, None)
        kept = tuple(sorted({*fds, writer}))
        pid: int = fork_exec(args, [os.fsencode(path)], True, kept, *unchanged, *vfork)
        os.close(writer)
        writer = -1
        # reads b"OSError:2:" (in hexadecimal), or nothing if the program runs
        kind, _, rest = os.read(reader, 200).partition(b":")
        if kind == b"OSError":
            number = int(rest.partition(b":")[0], 16)
            os.waitpid(pid, 0)
            raise OSError(number, os.strerror(number), os.fsdecode(path))
        return pid
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def _by_posix_spawn(path: str | bytes, args: list[str | bytes], fds: list[int]) -> int:
    import fcntl

    copies: list[tuple[int, int]] = []
    try:
        for fd in fds:
            copies.append((fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, fds[-1] + 1), fd))
        # a copy onto its own number would not make the program inherit it
        actions = [(os.POSIX_SPAWN_DUP2, copy, fd) for copy, fd in copies]
        # a copy, made at once: other threads may change it, and posix_spawn reads names and values one after the other
        environment = dict(getattr(os.environ, "_data", os.environ))
        return os.posix_spawn(path, args, environment, file_actions=actions)
    finally:
        for copy, _ in copies:
            os.close(copy)
