"""Starting programs so that tools which watch child processes see them.

Debuggers and tracers put functions of their own in place of some of Python's, to learn of every program that is
started, and to change its command line. Where nobody has, a program is started in Rust. Otherwise it is started through
what was replaced.
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
    """Whether somebody has replaced a function through which Python starts programs."""
    return _spawnv_passfds() is not None or _replaced() is not None


def _spawnv_passfds() -> Any:
    """What somebody has put in place of `util.spawnv_passfds`, here or in the standard library; None if nobody has."""
    from .. import util

    if util.spawnv_passfds is not util._spawnv_passfds:
        return util.spawnv_passfds
    theirs = sys.modules.get("multiprocessing.util")
    found = getattr(theirs, "spawnv_passfds", None)
    # its own function looks for names in the module
    return found if found is not None and getattr(found, "__globals__", None) is not vars(theirs) else None


def _replaced() -> Any:
    """The function of Python's that was replaced and by which a program is to be started; None if none was."""
    module = sys.modules.get("_posixsubprocess")  # whoever has replaced something there has imported it
    for found in (getattr(module, "fork_exec", None), getattr(os, "posix_spawn", None)):
        if found is not None and type(found) is not _BUILTIN:
            return found
    return None


def audit(command: Sequence[str | bytes]) -> None:
    """Raises the event that Python raises for a program that multiprocessing starts. What a hook raises refuses it."""
    sys.audit("_posixsubprocess.fork_exec", [command[0]], list(command), None)


def start(command: list[str | bytes], fds: list[int], seen: bool) -> tuple[int, int]:
    """Runs a program of ours. Returns its pid, and a pidfd or -1. OSError: it could not be started.

    It has these descriptors as 3, 4 and so on; if it is to be seen, under the numbers that they have here, since a tool
    may add some.
    """
    audit(command)
    if not seen:
        return _core.spawn_held(command[0], command, fds)
    from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, pthread_sigmask

    from .. import util

    # as _core.spawn has it: a program that is not ready for Ctrl-C yet unblocks it when it is
    before = pthread_sigmask(SIG_BLOCK, (SIGINT,))
    try:
        return (_spawnv_passfds() or util.spawnv_passfds)(command[0], command, fds), -1
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def started(path: str | bytes, args: Sequence[str | bytes], fds: Iterable[int]) -> int:
    """What `util.spawnv_passfds` does."""
    function = _replaced()
    arguments = _with_alias(args)
    numbers = sorted(set(map(int, fds)))
    if function is None:
        return _core.spawn(path, arguments, numbers, numbers)
    if function is getattr(os, "posix_spawn", None):
        return _by_posix_spawn(path, arguments, numbers)
    return _by_fork_exec(path, arguments, numbers)


def _with_alias(args: Sequence[str | bytes]) -> list[str | bytes]:
    """The same command, in which a tool that has put itself before a child of ours finds the alias that is here.

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
    # Python 3.14 does not ask any more whether vfork may be used
    vfork = [] if sys.version_info >= (3, 14) else [getattr(subprocess, "_USE_VFORK", True)]
    reader, writer = os.pipe()
    try:
        # no other folder, environment, standard streams, session, group or user
        unchanged = (None, None, -1, -1, -1, -1, -1, -1, reader, writer, False, False, -1, None, None, None, -1, None)
        kept = tuple(sorted({*fds, writer}))
        pid: int = fork_exec(args, [os.fsencode(path)], True, kept, *unchanged, *vfork)
        os.close(writer)
        writer = -1
        # b"OSError:2:", in hexadecimal, or nothing once the program runs
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
        # a copy onto its own number would not make it one that the program inherits
        actions = [(os.POSIX_SPAWN_DUP2, copy, fd) for copy, fd in copies]
        return os.posix_spawn(path, args, os.environ, file_actions=actions)
    finally:
        for copy, _ in copies:
            os.close(copy)
