"""The fork server: a small process with one thread, whose copies other processes ask for."""

from __future__ import annotations

import gc
import os
import sys

# in C, and without the pages that signal's enums touch in each child
from _signal import SIG_IGN, SIGINT  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
from _signal import signal as set_handler  # pyright: ignore[reportMissingImports]

from . import _alias, _core, context, popen_fork, process, spawn, util
from ._process import main_script as _main_script
from ._process import visible_start as _visible_start
from ._start import exit_report as _exit_report
from ._start import plain_message as _plain_message
from ._start.start_message import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
    "set_forkserver_spares",
]

CONTROL_FD = spawn.FAMILY_FD + 1  # where the server finds its end of the control socket
MOST_FDS = 250  # a message over a Unix socket takes 253


class ForkServer:
    """The client's side: the server that this process uses, and starts when it needs one.

    A child that was forked, by its parent or by the server, goes on with the server of its parent. A spawned child
    starts one of its own: it has asked for a fresh start. The server ends by itself when nobody is left to use it, by
    whatever signal they went. There is no address that others could connect to: whoever may use it has a descriptor.

    A server that has died is replaced, and so is one that is out of date: if the environment, `sys.path`, the current
    folder or what is to be preloaded have changed since it was started, its copies would not be what a new interpreter
    would be. The old server's children live on, and it ends with the last of them.
    """

    def __init__(self) -> None:
        self._lock = util.ForkAwareThreadLock()
        self._control: _core.Descriptor | None = None
        self._server: _core.Child | None = None
        self._member: _core.Member | None = None
        self._starter: int | None = None  # the process whose child the server is
        self._forkserver_pid: int | None = None
        self._inherited_fds: list[int] | None = None
        self._preload_modules: list[str] = ["__main__"]
        self._preload_on_error = "ignore"
        self._spares = 2
        self._world: dict[str, object] | None = None  # what the server was started in
        self._retired: list[_core.Child] = []  # servers that were replaced and may still have clients

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """What the next server imports before anything else; see `procession.set_forkserver_preload`.

        TypeError: not strings. ValueError: on_error is not "ignore", "warn" or "fail".
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self._preload_modules = modules_names
        self._preload_on_error = on_error

    def set_forkserver_spares(self, count: int) -> None:
        """How many children the next server keeps forked ahead; see `procession.set_forkserver_spares`."""
        from . import _arguments

        self._spares = _arguments.count("count", count, 0)

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors that came with the start of this process; None if no fork server started it."""
        return self._inherited_fds

    def connect_to_new_process(self, member: _core.Member, fds: Iterable[int]) -> tuple[int, int]:
        """Has the server fork a child for that seat, with copies of these descriptors. Returns (pid, pidfd or -1).

        A server that has died is replaced. ConnectionError: the new one died as well, most likely over what it was to
        import. OSError: it could not fork. ValueError: too many descriptors.
        """
        fds = list(fds)
        if len(fds) > MOST_FDS:
            raise ValueError(f"{len(fds)} descriptors are too many to hand over, {MOST_FDS} are the most")
        with self._lock:
            if not self._ensure_running():
                try:
                    return self._request(member, fds)
                except ConnectionError:  # it has died just now, or was the server of a parent long gone
                    self._let_go()
                    self._launch()
            try:
                return self._request(member, fds)
            except ConnectionError as error:
                error.add_note(
                    "Forkserver process may have crashed: while it imported what it was told to preload, if there is a "
                    "traceback on standard error."
                )
                raise error from self._what_ended_it()

    def _what_ended_it(self) -> BaseException | None:
        """The exception that a server of ours has left word of: a preload that failed."""
        server, member = self._server, self._member
        if server is None or member is None or server.wait(1.0) is None:
            return None
        report = member.report()
        return None if report is None else _exit_report.read_report(report, "the fork server", RuntimeError())

    def _request(self, member: _core.Member, fds: list[int]) -> tuple[int, int]:
        assert self._control is not None
        # the child gets the way to the server too, for children of its own
        try:
            control = self._control.fileno()
        except OSError as error:
            raise ConnectionResetError(*error.args) from None
        return _core.request_fork(control, member.slot, member.generation, [control, *fds])

    def ensure_running(self) -> None:
        """Starts a server unless there is one."""
        with self._lock:
            self._ensure_running()

    def _ensure_running(self) -> bool:
        """Whether a server had to be started."""
        if self._control is not None and not self._control.is_open():  # the program has closed what it does not know
            self._let_go()
        if self._control is not None:
            # only the process that started it can tell whether it lives; the others will see
            lives = self._starter != os.getpid() or self._server is None or self._server.poll() is None
            if lives and self._world == self._present_world():
                return False
            self._let_go()
        self._launch()
        return True

    def _present_world(self) -> dict[str, object]:
        """All that a server has from its start on, and its children from it."""
        environment = getattr(os.environ, "_data", None)  # the bytes; CPython's name for them
        main = _main_script.main_module()
        try:
            folder = os.getcwd()
        except OSError:
            folder = ""
        return {
            "environment": dict(os.environ if environment is None else environment),
            # a main module that adds a folder does so again wherever it is imported
            "path": list(dict.fromkeys(spawn._resolved_path())),
            "folder": folder,
            "main": main if _main_script.is_imported(main) else {},
            "alias": _alias.installed(),
            "executable": spawn.get_executable(),
            "preload": list(self._preload_modules),
            "on_error": self._preload_on_error,
            # who watches processes would take a spare for a child that does nothing
            "spares": 0 if _visible_start.watched() else self._spares,
        }

    def _launch(self) -> None:
        self._world = self._present_world()
        member = _core.Member.reserve("forkserver", "spawn")
        ours, theirs = _core.control_pair()
        pid = 0
        try:
            member.load(_settings(self._preload_modules, self._preload_on_error, self._world))
            fds, seen = [_core.family_fd(), theirs], _visible_start.watched()
            numbers = {"family": fds[0], "control": fds[1]} if seen else {}
            command = spawn.command("forkserver", "main", slot=member.slot, generation=member.generation, **numbers)
            pid, pidfd = _visible_start.start(command, fds, seen)
            member.started(pid)
            self._server = _core.Child(pid, member, pidfd)
            self._member = member
        except BaseException:
            os.close(ours)
            if pid:  # without a client it would end, but nobody would wait for it
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            else:
                member.discard()
            raise
        finally:
            os.close(theirs)
        self._control = _core.Descriptor(ours)
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
        """Lets those go that have ended: nobody else would wait for them."""
        for server in tuple(self._retired):
            if server.poll() is not None:
                self._retired.remove(server)
                server.close()

    def _stop(self) -> None:
        """Ends the server, if it is a child of this process, and waits for it: for tests.

        It goes once its last client has closed the control socket, and the children that it forked are clients.
        """
        with self._lock:
            server, starter = self._server, self._starter
            self._let_go()
            if server is not None and starter == os.getpid():
                server.wait()
                self._wait_for_retired()

    def _came_from(self, world: dict[str, Any]) -> None:
        """In the server: so that its children know whether it is up to date for children of their own."""
        self._world = world
        self._preload_modules = world["preload"]
        self._preload_on_error = world["on_error"]
        self._spares = world["spares"]
        # what was imported may have changed the environment, here as where the program imported it
        world["environment"] = self._present_world()["environment"]

    def _forked_by(self, server: int, fds: list[int]) -> None:
        """In a child of the server: what came with the start."""
        control, *self._inherited_fds = fds
        self._control = _core.Descriptor(control)
        self._forkserver_pid = server
        self._server = self._member = self._starter = None
        self._retired = []


def _settings(preload: list[str], on_error: str, world: dict[str, object]) -> bytes:
    from pickle import dumps

    settings: dict[str, Any] = {"alias": _alias.installed(), "preload": None, "world": world}
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
    return dumps(settings)


# --- the server ---


def main(slot: int, generation: int, family: int = spawn.FAMILY_FD, control: int = CONTROL_FD) -> None:
    """The server's program: imports what it was told to, then forks whenever it is asked."""
    import signal

    os.set_inheritable(control, False)
    settings = loads(spawn.take_seat(slot, generation, family))
    _core.carried_done()
    if settings["alias"]:
        _alias.install()
    if settings["preload"] is not None:
        try:
            _handle_preload(**settings["preload"])
        except Exception as error:
            _exit_report.leave_report(error)
            raise
    _forkserver._came_from(settings["world"])
    util._close_stdin()
    # Ctrl-C is for the program. (By the module in C: it takes SIG_IGN back only as the plain number that it gives out
    # itself, and does give it out where a shell has started the program with &.)
    # It stays blocked since the server's start, so that it waits for a child that is not ready for it. One that is only
    # ignored is lost.
    interrupt_handler = set_handler(SIGINT, SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    rehearsal = _plain_message.packed(spawn.get_preparation_data("rehearsal"), context.ForkServerProcess())
    # what is here now is here in all children: their collector need not look at it, and so not copy its pages
    gc.collect()
    gc.freeze()
    server = _core.ForkServer(control)
    server.keep_spares(settings["world"]["spares"])
    _loop(server, interrupt_handler, rehearsal)


def _loop(server: _core.ForkServer, interrupt_handler: Any, rehearsal: bytes | None) -> None:
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


def _live(
    server: _core.ForkServer, request: tuple[int, int, int, list[int]], interrupt_handler: Any, rehearsal: bytes | None
) -> NoReturn:
    """The whole life of a forked child."""
    slot, generation, reply, fds = request
    if reply < 0:
        popen_fork.live(lambda: _serve_as_spare(server, interrupt_handler, rehearsal))
    popen_fork.live(lambda: _serve(server, slot, generation, fds, interrupt_handler))


def _serve(server: _core.ForkServer, slot: int, generation: int, fds: list[int], interrupt_handler: Any) -> int:
    """In the forked child: from a copy of the server to a process that was asked for."""
    server.leave()
    return _become(slot, generation, fds, os.getppid(), interrupt_handler)


def _serve_as_spare(server: _core.ForkServer, interrupt_handler: Any, rehearsal: bytes | None) -> int:
    """In a child that was forked ahead: waits until it is needed."""
    parent = os.getppid()
    if rehearsal is not None:
        _rehearse(rehearsal)
    told = server.wait_as_spare()
    if told is None:
        os._exit(0)
    return _become(*told, parent, interrupt_handler)


def _rehearse(message: bytes) -> None:
    """Does what a start will do, with a message that says what is so anyway, while nobody waits for it.

    Most of the time that a forked child takes to begin goes into copying the pages that it writes to for the first
    time, and with CPython that is wherever it looks. Here this is got over with before it is needed.
    """
    preparation, rest = _plain_message.preparation(message)
    spawn.prepare(preparation)
    process_obj = _plain_message.unpacked(rest)
    process_obj._after_fork = lambda: None  # type: ignore[method-assign]  # once is enough for what users registered
    process._become_current(process_obj, None)


def _become(slot: int, generation: int, fds: list[int], server: int, interrupt_handler: Any) -> int:
    if interrupt_handler is not None:  # None: it was not Python that set it
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
    """Imports what children will want, the main module included if it is listed as `__main__`.

    The main module may raise anything, and other modules an ImportError, with the consequences that on_error names.
    """
    if not preload:
        return
    if sys_argv is not None:
        sys.argv[:] = sys_argv
    if sys_path is not None:
        sys.path[:] = sys_path
    if "__main__" in preload and (main_path or main_name):
        # as in a child: a main module that starts processes must not do so here by another method
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
    util._flush_std_streams()  # or each child would print it again


def _preload_failed(what: str, error: Exception, on_error: str) -> None:
    if on_error == "fail":
        raise error
    if on_error == "warn":
        import warnings

        warnings.warn(f"Failed to preload {what}: {error!r}", ImportWarning, stacklevel=3)


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
set_forkserver_spares = _forkserver.set_forkserver_spares

if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
