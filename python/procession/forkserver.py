"""The fork server: a small process with one thread, which forks children for other processes."""

from __future__ import annotations

import gc
import os
import sys

# in C: importing signal takes milliseconds, and its enums would touch more pages in each child
from _signal import SIG_BLOCK, SIG_IGN, SIGINT, pthread_sigmask  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
from _signal import signal as set_handler  # pyright: ignore[reportMissingImports]

from . import _alias, _core, context, popen_fork, process, spawn, util
from ._process import main_script as _main_script
from ._process import visible_start as _visible_start
from ._start import exit_report as _exit_report
from ._start import plain_message as _plain_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final, NoReturn

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
    "set_forkserver_spares",
]

CONTROL_FD = spawn.FAMILY_FD + 1  # the number of the server's end of the control socket
MOST_FDS = 250  # a message over a Unix socket takes 253 descriptors


class ForkServer:
    """The client's side: the server that this process uses, and starts when it needs one.

    A child that was forked, by its parent or by the server, uses the server of its parent. A spawned child starts its
    own, since it has asked for a fresh start. The server ends by itself when all its clients have ended, also if they
    were killed. It has no address to which other processes could connect: a client has a descriptor.

    A server that has died is replaced. So is one that is out of date: if the environment, `sys.path`, the current
    folder or the list of modules to preload have changed since its start, its children would differ from a new
    interpreter. The children of the old server live on, and it ends with the last of them.
    """

    def __init__(self) -> None:
        self._lock = util.ForkAwareThreadLock()
        self._control: _core.Descriptor | None = None
        self._server: _core.Child | None = None
        self._member: _core.Member | None = None
        self._starter: int | None = None  # the process that has started the server
        self._forkserver_pid: int | None = None
        self._inherited_fds: list[int] | None = None
        self._preload_modules: list[str] = ["__main__"]
        self._preload_on_error = "ignore"
        self._spares = 2
        self._was_used = True  # the server was asked for a child; if not, it cannot have ended because it was idle
        self._fingerprint: dict[str, object] | None = None  # what the server was started with
        self._retired: list[_core.Child] = []  # servers that were replaced and may still have clients

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Sets the modules that the next server imports first; see `procession.set_forkserver_preload`.

        TypeError: a name is no str. ValueError: on_error is not "ignore", "warn" or "fail".
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def set_forkserver_spares(self, count: int) -> None:
        """Sets how many children the next server keeps forked in advance; see `procession.set_forkserver_spares`."""
        from . import _arguments

        self._spares = _arguments.count("count", count, 0)

    def get_inherited_fds(self) -> list[int] | None:
        """Returns the descriptors that came with the start of this process; None if no fork server has started it."""
        return self._inherited_fds

    def connect_to_new_process(self, member: _core.Member, fds: Iterable[int]) -> tuple[int, int]:
        """Makes the server fork a child for that seat, with copies of these descriptors. Returns (pid, pidfd or -1).

        A server that has died is replaced. ConnectionError: the new one died as well, most likely because of a module
        that it imported. OSError: it could not fork. ValueError: too many descriptors.
        """
        fds = list(fds)
        if len(fds) > MOST_FDS:
            raise ValueError(f"{len(fds)} descriptors are too many to hand over, {MOST_FDS} are the most")
        with self._lock:
            self._ensure_running()
            if self._was_used:
                try:
                    return self._request(member, fds)
                except ConnectionError:  # it has just died, or was the server of a parent that ended long ago
                    self._let_go()
                    self._launch()
            try:
                return self._request(member, fds)
            except ConnectionError as error:
                error.add_note(
                    "Forkserver process may have crashed. If there is a traceback on standard error, a module that it "
                    "preloads has raised that."
                )
                raise error from self._what_ended_it()

    def _what_ended_it(self) -> BaseException | None:
        """Returns the exception that ended a server of this process, if it has reported one: a preload that failed."""
        server, member = self._server, self._member
        if server is None or member is None or server.wait(1.0) is None:
            return None
        report = member.report()
        return None if report is None else _exit_report.read_report(report, "the fork server", RuntimeError())

    def _request(self, member: _core.Member, fds: list[int]) -> tuple[int, int]:
        assert self._control is not None
        self._was_used = True
        # the child gets a descriptor of the server too, for its own children
        try:
            control = self._control.fileno()
        except OSError as error:
            raise ConnectionResetError(*error.args) from None
        return _core.request_fork(control, member.slot, member.generation, [control, *fds])

    def _is_known(self) -> bool:
        """Returns whether this process has used a server before."""
        return self._control is not None

    def ensure_running(self) -> None:
        """Starts a server unless there is one."""
        try:
            with self._lock:
                self._ensure_running()
        except OSError as error:
            _core.explain_limit(error, "starting the fork server", starts=True)
            raise

    def _ensure_running(self) -> None:
        """Starts a server unless there is one that is up to date."""
        if self._control is not None and not self._control.is_open():  # the program has closed the descriptor
            self._let_go()
        if self._control is not None:
            # only the process that started it knows whether it lives; others notice when they use it
            lives = self._starter != os.getpid() or self._server is None or self._server.poll() is None
            if lives and self._fingerprint == self._current_fingerprint():
                return
            self._let_go()
        self._launch()

    def _current_fingerprint(self) -> dict[str, object]:
        """Returns everything that a server, and so its children, have from its start."""
        environment = getattr(os.environ, "_data", None)  # the bytes; the attribute of CPython
        main = _main_script.main_module()
        try:
            folder = os.getcwd()
        except OSError:
            folder = ""
        return {
            "environment": dict(os.environ if environment is None else environment),
            # a main module that adds a folder adds it again in each process that imports it
            "path": list(dict.fromkeys(spawn._resolved_path())),
            "folder": folder,
            "main": main if _main_script.is_imported(main) else {},
            "alias": _alias.installed(),
            "executable": spawn.get_executable(),
            "preload": list(self._preload_modules),
            "on_error": self._preload_on_error,
            # a tool that watches processes would take a spare for a child that does nothing
            "spares": 0 if _visible_start.watched() else self._spares,
        }

    def _launch(self) -> None:
        self._fingerprint = self._current_fingerprint()
        member = _core.Member.reserve("forkserver", "spawn")
        ours, theirs = _core.control_pair()
        pid = 0
        try:
            member.load(_settings(self._preload_modules, self._preload_on_error, self._fingerprint))
            fds, seen = [_core.family_fd(), theirs], _visible_start.watched()
            numbers = {"family": fds[0], "control": fds[1]} if seen else {}
            command = spawn.command("forkserver", "main", slot=member.slot, generation=member.generation, **numbers)
            pid, pidfd = _visible_start.start(command, fds, seen)
            member.started(pid)
            self._server = _core.Child(pid, member, pidfd)
            self._member = member
        except BaseException:
            os.close(ours)
            if pid:  # without a client it would end, but would stay a zombie
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            else:
                member.discard()
            raise
        finally:
            os.close(theirs)
        self._control = _core.Descriptor(ours)
        self._was_used = False
        self._starter = os.getpid()
        self._forkserver_pid = pid

    def _let_go(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None and self._starter == os.getpid():
            self._retired.append(self._server)
            self._wait_for_retired()
        self._control = self._server = self._member = self._starter = self._forkserver_pid = None

    def _wait_for_retired(self) -> None:
        """Releases the replaced servers that have ended. No other code waits for them."""
        for server in list(self._retired):
            if server.poll() is not None:
                try:
                    self._retired.remove(server)
                except ValueError:  # another thread has released it
                    continue
                server.close()

    def _stop(self) -> None:
        """Ends the server, if it is a child of this process, and waits for it. For tests.

        The server ends when its last client has closed the control socket. The children that it forked are clients.
        """
        with self._lock:
            server, starter = self._server, self._starter
            self._let_go()
            if server is not None and starter == os.getpid():
                server.wait()
                self._wait_for_retired()

    def _came_from(self, fingerprint: dict[str, Any]) -> None:
        """Called in the server. Its children compare this with their own state when they start children."""
        self._fingerprint = fingerprint
        self._preload_modules = fingerprint["preload"]
        self._preload_on_error = fingerprint["on_error"]
        self._spares = fingerprint["spares"]
        # imported modules may have changed the environment, here as in the program
        fingerprint["environment"] = self._current_fingerprint()["environment"]

    def _forked_by(self, server: int, fds: list[int]) -> None:
        """Called in a child of the server. Stores what came with the start."""
        control, *self._inherited_fds = fds
        self._control = _core.Descriptor(control)
        self._forkserver_pid = server
        self._server = self._member = self._starter = None
        self._retired = []


def _settings(preload: list[str], on_error: str, fingerprint: dict[str, object]) -> bytes:
    settings: dict[str, Any] = {"alias": _alias.installed(), "preload": None, "fingerprint": fingerprint}
    if preload:
        data = spawn.get_preparation_data("forkserver")
        settings["preload"] = {
            "preload": list(preload),
            "main_path": data.get("init_main_from_path"),
            "main_name": data.get("init_main_from_name"),
            "sys_path": data["sys_path"],
            "sys_argv": list(data["sys_argv"]),
            "start_method": data["start_method"],
            "on_error": on_error,
        }
    return _plain_message.settings_packed(settings)


# --- the server ---


def main(slot: int, generation: int, family: int = spawn.FAMILY_FD, control: int = CONTROL_FD) -> None:
    """Runs the server: imports the modules to preload, and then forks a child for each request."""
    os.set_inheritable(control, False)
    settings = _plain_message.settings_of(spawn.take_seat(slot, generation, family))
    _core.carried_done()
    if settings["alias"]:
        _alias.install()
    if settings["preload"] is not None:
        try:
            _handle_preload(**settings["preload"])
        except Exception as error:
            _exit_report.leave_report(error)
            raise
    _forkserver._came_from(settings["fingerprint"])
    util._close_stdin()
    # Ctrl-C is for the program. (The module in C is used because it accepts SIG_IGN only as the plain number that it
    # returns, and returns it if a shell has started the program with &.) SIGINT stays blocked from the start of the
    # server on: a signal that is blocked waits for a child that is not ready for it; an ignored one would be lost.
    interrupt_handler = set_handler(SIGINT, SIG_IGN)
    pthread_sigmask(SIG_BLOCK, (SIGINT,))
    rehearsal = _plain_message.packed(spawn.get_preparation_data("rehearsal"), context.ForkServerProcess())
    # children share the objects that exist now: their collector skips them, so it does not copy their pages
    gc.collect()
    gc.freeze()
    server = _core.ForkServer(control)
    server.keep_spares(settings["fingerprint"]["spares"])
    _loop(server, interrupt_handler, rehearsal)


def _loop(server: _core.ForkServer, interrupt_handler: Any, rehearsal: bytes | None) -> None:
    is_warm = False
    while (request := server.next()) is not None:
        slot, generation, reply, _ = request
        is_spare = reply < 0
        try:
            pid = os.fork()
        except OSError as error:
            _core.fork_refused()
            if not is_spare:
                server.refused(str(error), reply, error.errno or 0)
            continue
        if pid == 0:
            _live(server, request, interrupt_handler, rehearsal)
        if is_spare:
            server.spare_forked(pid)
        else:
            server.forked(pid, slot, generation, reply)
        if not is_warm:
            is_warm = True
            _warm_up()


def _warm_up() -> None:
    """Imports what many children need, and what the first one, for which a program waits, most likely did not need."""
    from ._start.start_message import loads

    loads(b"N.")

    gc.collect()
    gc.freeze()


def _live(
    server: _core.ForkServer, request: tuple[int, int, int, list[int]], interrupt_handler: Any, rehearsal: bytes | None
) -> NoReturn:
    """Runs a forked child to its end."""
    slot, generation, reply, fds = request
    if reply < 0:
        popen_fork.live(lambda: _serve_as_spare(server, interrupt_handler, rehearsal))
    popen_fork.live(lambda: _serve(server, slot, generation, fds, interrupt_handler))


def _serve(server: _core.ForkServer, slot: int, generation: int, fds: list[int], interrupt_handler: Any) -> int:
    """Called in the forked child. Turns a copy of the server into the requested process."""
    server.leave()
    return _become(slot, generation, fds, os.getppid(), interrupt_handler)


def _serve_as_spare(server: _core.ForkServer, interrupt_handler: Any, rehearsal: bytes | None) -> int:
    """Called in a child that was forked in advance. Waits until it is needed."""
    parent = os.getppid()
    if rehearsal is not None:
        _rehearse(rehearsal)
    told = server.wait_as_spare()
    if told is None:
        os._exit(0)
    return _become(*told, parent, interrupt_handler)


def _rehearse(message: bytes) -> None:
    """Does the work of a start in advance, with a message that changes nothing.

    A forked child needs most of its time to copy the pages to which it writes for the first time, and CPython writes to
    each object that it uses. A spare does this before it is needed.
    """
    preparation, rest = _plain_message.preparation(message)
    spawn.prepare(preparation)
    process_obj = _plain_message.unpacked(rest)
    process_obj._after_fork = lambda: None  # type: ignore[method-assign]  # functions of users are called once, later
    process._become_current(process_obj, None)


def _become(slot: int, generation: int, fds: list[int], server: int, interrupt_handler: Any) -> int:
    if interrupt_handler is not None:  # None: code in C had set it
        set_handler(SIGINT, interrupt_handler)
    _forkserver._forked_by(server, fds)
    return spawn._main(_core.adopt(-1, slot, generation))


def _handle_preload(
    preload: list[str],
    main_path: str | None = None,
    sys_path: list[str] | None = None,
    sys_argv: list[str] | None = None,
    on_error: str = "ignore",
    *,
    main_name: str | None = None,
    start_method: str | None = None,
) -> None:
    """Imports the modules for children, and the main module if `__main__` is in the list.

    An exception of the main module, or an ImportError of another one, is handled as on_error says.
    """
    if not preload:
        return
    if sys_argv is not None:
        sys.argv[:] = sys_argv
    if sys_path is not None:
        sys.path[:] = sys_path
    if "__main__" in preload and (main_path or main_name):
        # as in a child: a main module that starts processes must not do it by another method here
        context._default_context.set_start_method(start_method, force=True)
        current = process.current_process()
        current._inheriting = True
        try:
            if main_path is not None:
                spawn.import_main_path(main_path)
            elif main_name is not None:
                spawn._fixup_main_from_name(main_name)
        except Exception as error:
            _preload_failed(f"__main__ from {main_path or main_name!r}", error, on_error)
        finally:
            del current._inheriting
    for name in preload:
        if name == "__main__":
            continue
        try:
            __import__(name)
        except ImportError as error:
            _preload_failed(f"module {name!r}", error, on_error)
    util._flush_std_streams()  # otherwise each child would print the buffered text again


def _preload_failed(what: str, error: Exception, on_error: str) -> None:
    if on_error == "fail":
        raise error
    if on_error == "warn":
        import warnings

        warnings.warn(f"Failed to preload {what}: {error!r}", ImportWarning, stacklevel=3)


_forkserver = ForkServer()
ensure_running: Final = _forkserver.ensure_running
get_inherited_fds: Final = _forkserver.get_inherited_fds
connect_to_new_process: Final = _forkserver.connect_to_new_process
set_forkserver_preload: Final = _forkserver.set_forkserver_preload
set_forkserver_spares: Final = _forkserver.set_forkserver_spares

if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
