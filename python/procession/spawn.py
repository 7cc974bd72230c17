"""Spawned children, which begin with a new interpreter: their command line, their preparation, their main function."""

from __future__ import annotations

import gc
import os
import sys

# in C, and importing it takes less time in each child than importing signal
from _signal import SIG_BLOCK, SIG_DFL, SIG_UNBLOCK, SIGINT, pthread_sigmask, signal  # type: ignore[import-not-found]

from . import _alias, _core, process
from ._process import log as _log
from ._process import main_script as _main_script
from .context import FROZEN_MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

__all__ = [
    "_main",
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "is_forking",
    "prepare",
    "set_executable",
    "spawn_main",
]

process._register_farewell()

# for programs that ask whether they run on Windows
WINEXE = False
WINSERVICE = False

MARK = "--multiprocessing-fork"  # distinguishes a child from a program, also in the output of `ps`
FAMILY_FD = 3  # the number under which _core.spawn hands over the family memory


# --- the command line ---


def set_executable(exe: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None) -> None:
    """Sets the Python interpreter of children. For programs that embed Python; the default is `sys.executable`."""
    global _python_exe  # noqa: PLW0603 (of this process)
    _python_exe = None if exe is None else os.fsencode(exe)


def get_executable() -> bytes | None:
    """Returns the Python interpreter of children; None if the running one does not know its own."""
    return _python_exe


def get_command_line(**kwds: object) -> list[str | bytes]:
    """Returns the command that runs `spawn_main(**kwds)` in a new interpreter like this one.

    RuntimeError: the interpreter is not known.
    """
    return [*command("spawn", "spawn_main", **kwds), *(() if is_frozen() else (MARK,))]


def is_frozen() -> bool:
    """Returns whether this program was made into an executable, so that there is no interpreter for children."""
    return bool(getattr(sys, "frozen", False)) or _is_standalone or _executable_is_program()


def _executable_is_program() -> bool:
    """Returns whether the supposed interpreter is the program itself, compiled by Nuitka.

    If such a program imports `multiprocessing`, Nuitka sets `sys.executable` to the program, which has no option -c.
    """
    program = getattr(_compiled_program(), "process_exe", None)
    return program is not None and os.fsencode(program) == _python_exe


def _compiled_program() -> Any:
    """Returns Nuitka's description of the program that it compiled; None for another program."""
    return _compiled or getattr(sys.modules.get("__main__"), "__compiled__", None)


def _was_started_by_itself() -> bool:
    """Returns whether a frozen program has started this process as its child."""
    # A program that Nuitka compiled may notice that only later, when it imports what its parent has imported.
    return sys.argv[1:2] == [FROZEN_MARK] and (is_frozen() or _compiled_program() is not None)


def command(module: str, function: str, **kwds: object) -> list[str | bytes]:
    """Returns the command that calls a function of this package in a new interpreter like this one.

    The child must find the package before it gets the `sys.path` of its parent. So the command names the folder: the
    parent may have found it through a changed `sys.path`, or may run with -S or -I. The folder comes after the standard
    library, and the current folder is left out: files in them must not replace modules that the package imports.
    """
    from .util import _args_from_interpreter_flags

    if is_frozen():  # the program itself calls freeze_support()
        numbers = (f"{name}={int(value)}" for name, value in kwds.items())  # type: ignore[call-overload]
        return [_python_exe or sys.executable, FROZEN_MARK, f"module={module}", *numbers]
    if not _python_exe:
        raise RuntimeError("no Python interpreter is known for children: sys.executable is empty, use set_executable()")
    package = __name__.rpartition(".")[0]
    folder = os.path.dirname(sys.modules[package].__path__[0])
    arguments = ", ".join(f"{name}={value!a}" for name, value in kwds.items())
    code = (
        # there is no garbage while the package is imported; `take_seat` enables the collector again
        f"import gc, sys; gc.disable(); lib = sys._stdlib_dir or sys.base_prefix; "
        f"std = [p for p in sys.path if p.startswith(lib) and '-packages' not in p]; "
        f"sys.path[:] = [*std, {folder!r}, *(p for p in sys.path if p and p not in std)]; del lib, std; "
        f"from {package}.{module} import {function}; {function}({arguments})"
        # for `ps`, and for scripts that look for the command lines of the standard library's children
        f"  # from multiprocessing.{module} import {function}"
    )
    return [_python_exe, *_args_from_interpreter_flags(), "-c", code]


def is_forking(argv: list[str]) -> bool:
    """Returns whether this is the command line of a child."""
    return len(argv) >= 2 and argv[1] in (MARK, FROZEN_MARK)


def freeze_support() -> None:
    """Runs the child and exits, in a child of a frozen program. Does nothing elsewhere.

    Children of the standard library's multiprocessing are left to the function of that package.
    """
    global _is_taken  # noqa: PLW0603 (of this process)
    if not _was_started_by_itself():
        return
    from importlib import import_module

    _is_taken = True
    if not is_frozen():
        set_executable(_compiled_program().process_exe)  # as in the parent
    given = dict(word.split("=", 1) for word in sys.argv[2:])
    module = import_module(f"{__name__.rpartition('.')[0]}.{given.pop('module')}")
    main = spawn_main if module.__name__ == __name__ else module.main
    main(**{name: int(value) for name, value in given.items()})
    sys.exit()


_is_taken = False  # whether this process runs as a child


# --- what the parent sends ---


def get_preparation_data(name: str) -> dict[str, Any]:
    """Returns what a child named `name` needs before its Process object can be unpickled.

    RuntimeError: this process is a child that is still importing its main module.
    """
    from . import context

    _check_not_importing_main()
    data: dict[str, Any] = {
        "alias": _alias.installed(),
        "name": name,
        "authkey": process.current_process().authkey,
        "log_to_stderr": _log.to_stderr,
        "sys_path": _resolved_path(),
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,
        "start_method": context._default_context.get_start_method(allow_none=True),
    }
    if _log.logger is not None:
        data["log_level"] = _log.logger.getEffectiveLevel()
    try:  # noqa: SIM105 (importing contextlib takes a millisecond, in each child)
        data["dir"] = os.getcwd()
    except OSError:  # the folder has been removed; the child has none either
        pass
    data.update(_main_script.main_module())
    if _is_first():
        data["first"] = True
    if SIGINT in pthread_sigmask(SIG_BLOCK, ()):
        data["sigint_blocked"] = True
    key = _alias.key_of_theirs()
    if key is not None:
        data["their_authkey"] = key
    return data


def _resolved_path() -> list[str]:
    return [process.ORIGINAL_DIR or "" if entry == "" else entry for entry in sys.path]


def _check_not_importing_main() -> None:
    """Raises RuntimeError if this process is a child that is importing the main module, which must not start any."""
    global _guard_error  # noqa: PLW0603 (of this process)
    if _was_started_by_itself() and not _is_taken:
        # it would start a copy of itself, which starts another one, and so on
        raise RuntimeError(
            "this process was started to be a child of a frozen program, and runs the program instead: the main module "
            "must call procession.freeze_support() before it does anything else"
        )
    if getattr(process.current_process(), "_inheriting", False):
        _guard_error = RuntimeError(f"{ATTEMPT}.\n{ADVICE}")
        raise _guard_error


ATTEMPT = (
    "An attempt has been made to start a new process before the current process has finished its bootstrapping phase"
)
ADVICE = """
A child that is not forked imports the main module, to find the functions that are defined there. So the main module
must not start processes, choose how they are started, or do anything else, just because it is imported. Put what the
program does where only the program itself comes to:

    if __name__ == "__main__":
        main()

(A program that is frozen into an executable also calls freeze_support() first there.)"""
_guard_error: RuntimeError | None = None
_has_children_of: int | None = None  # the pid under which this process has noted that it has started a child


def _is_first() -> bool:
    """Returns whether this process has not started a child in this way before. A fault of the main module is a fault
    in all of its children, so only the first one reports it.
    """
    global _has_children_of
    before, _has_children_of = _has_children_of, os.getpid()
    return before != _has_children_of


# --- what the child does ---


def spawn_main(
    slot: int, generation: int, family: int = FAMILY_FD, alias: int = False, name: object = None
) -> NoReturn:
    """Runs a spawned child: takes its seat in the family, runs its Process object, and exits. name: for `ps`."""
    import atexit

    assert is_forking(sys.argv), "only children that spawn has started may call this"
    if alias:  # before anything is unpickled: objects that tools have put into the start message import multiprocessing
        _alias.install()
    try:
        code = process._others().status_of(_main(take_seat(slot, generation, family)), 63, 255)
    except KeyboardInterrupt:
        # Ctrl-C, for instance while the main module was imported. Only the main process prints a traceback.
        _end_by_interrupt()
    atexit._run_exitfuncs()  # now, since the interpreter would run them after `declare_exit`
    _core.declare_exit(code)
    sys.exit(code)


def _end_by_interrupt() -> NoReturn:
    from os import getpid, kill

    signal(SIGINT, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, (SIGINT,))
    kill(getpid(), SIGINT)
    sys.exit(1)  # not reached: the signal ends the process


def take_seat(slot: int, generation: int, family: int = FAMILY_FD) -> bytes:
    """Joins the family in a new interpreter. Returns the start message."""
    # Objects that exist now stay until the end, so the collector need not examine them.
    gc.freeze()
    gc.enable()
    os.set_inheritable(family, False)  # only this process inherits it through exec
    return _core.adopt(family, slot, generation)


def _main(message: bytes) -> int:
    """Does what a start message says. Returns the exit code."""
    from ._start import plain_message as _plain_message

    current = process.current_process()
    current._inheriting = True
    try:
        if message.startswith(_plain_message.MARK):
            preparation, rest = _plain_message.preparation(message)
            prepare(preparation)
            process_obj = _plain_message.unpacked(rest)
        else:
            process_obj = _unpickled(message)
        del message  # it may be big
        _core.carried_done()
    except Exception as error:
        if error is not _guard_error:
            _leave_report(error)
            raise
        part = _main_script.program_part(error.__traceback__)
        if _tells:
            sys.excepthook(RuntimeError, error.with_traceback(part), part)
        short = RuntimeError(f"{ATTEMPT}: the main module must not do that when it is imported")
        _leave_report(short.with_traceback(part))
        return 1
    finally:
        del current._inheriting
    code: int = process_obj._bootstrap()
    return code


def _leave_report(error: BaseException) -> None:
    from ._start.exit_report import leave_report  # few children need it

    leave_report(error)


process._leave_report = _leave_report


def _unpickled(message: bytes) -> process.BaseProcess:
    from ._start.start_message import loads, split

    preparation, pickled_process, buffers = split(message)
    prepare(loads(preparation))
    process_obj: process.BaseProcess
    if buffers:
        from ._start.big_arguments import load

        process_obj = load(pickled_process, loads(buffers))
    else:
        process_obj = loads(pickled_process)
    return process_obj


def prepare(data: dict[str, Any]) -> None:
    """Prepares this process for unpickling its Process object, with the result of `get_preparation_data`."""
    from . import context

    global _tells  # noqa: PLW0603 (of this process)
    _tells = data.get("first", False)
    # SIGINT was blocked from the start of the process, so that Ctrl-C does not interrupt an unfinished preparation
    pthread_sigmask(SIG_BLOCK if data.get("sigint_blocked") else SIG_UNBLOCK, (SIGINT,))
    if data.get("alias"):
        _alias.install()
    if "their_tracker" in data:
        # otherwise the standard library would start a new tracker here, which removes objects that are still in use
        from multiprocessing.resource_tracker import _resource_tracker

        _resource_tracker._fd = data["their_tracker"].detach()  # type: ignore[attr-defined]
    if "lifeline" in data:
        _core.lifeline_hold(data["lifeline"].detach())
    current = process.current_process()
    if "name" in data:
        current.name = data["name"]
    if "authkey" in data:
        current.authkey = data["authkey"]
        _alias.take_key(data.get("their_authkey"))
    if data.get("log_to_stderr"):
        _log.log_to_stderr()
    if "log_level" in data:
        _log.get_logger().setLevel(data["log_level"])
    if "sys_path" in data:
        sys.path[:] = data["sys_path"]
    if "sys_argv" in data:
        sys.argv[:] = data["sys_argv"]
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    for name, value in data.get("environment", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "start_method" in data:
        context._default_context.set_start_method(data["start_method"], force=True)
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


_tells = False  # whether this child reports a fault of the main module

# modules that were __main__ before; other objects may still refer to their contents
old_main_modules: list[ModuleType] = []


def import_main_path(main_path: str) -> None:
    """Makes the script the main module of this process, named `__mp_main__`, unless it is already."""
    _fixup_main_from_path(main_path)


def _fixup_main_from_path(main_path: str) -> None:
    if os.path.splitext(os.path.basename(main_path))[0] == "ipython":
        return  # the launcher of IPython has no `if __name__ == "__main__"`
    if getattr(sys.modules["__main__"], "__file__", None) == main_path:
        return  # the fork server has imported it
    _run_as_main(*_main_script.read_script(main_path, "__mp_main__"))


def _fixup_main_from_name(mod_name: str) -> None:
    if mod_name.rpartition(".")[2] == "__main__":
        return  # of a package, folder or zip file: it is run and not imported
    if getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == mod_name:
        return  # the fork server has imported it
    _run_as_main(*_main_script.find_module(mod_name, "__mp_main__"))


def _run_as_main(code: CodeType, module: ModuleType) -> None:
    """Makes the module the main module of this process and runs its code. If that fails, the old one stays.

    The module has both names before its code runs: the standard library's package sets `__mp_main__` to the current
    `__main__` when it is imported, and pickle and `dataclasses` find the classes of a module through its name.
    """
    names = ("__main__", "__mp_main__")
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names, module))
    try:
        exec(code, module.__dict__)
    except BaseException:
        for name, old in before.items():
            if old is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = old
        raise
    sys.modules.update(dict.fromkeys(names, module))
    if before["__main__"] is not None:
        old_main_modules.append(before["__main__"])


_compiled = globals().get("__compiled__")  # Nuitka's
_is_standalone = bool(getattr(_compiled, "standalone", _compiled is not None))  # without an interpreter
_python_exe: bytes | None = None
set_executable((getattr(_compiled, "process_exe", None) if _is_standalone else None) or sys.executable)

if not TYPE_CHECKING:
    __getattr__ = process.lending(__name__)
