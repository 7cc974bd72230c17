"""`python -m procession`: runs a program in which `import multiprocessing` means Procession.

The rest of the command line is as for `python` itself. The program finds `sys.argv`, `sys.path` and `__main__` as if
`python` had started it.
"""

from __future__ import annotations

import os
import sys

from procession import _alias
from procession._process import main_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType, TracebackType
    from typing import NoReturn

    Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

__all__ = ["main"]

USAGE = (
    "usage: python -m procession [-h] [--version] [--cluster ADDRESS] (SCRIPT | -m MODULE | -c CODE | -) [ARGUMENT ...]"
)
HELP = f"""{USAGE}

Runs a Python program in which `import multiprocessing` means Procession, in all its processes.

  SCRIPT       a Python file, or a folder or zip file with a __main__.py
  -m MODULE    a module, or a package with a __main__.py
  -c CODE      a program given as text
  -            a program read from standard input
  ARGUMENT     the program's own arguments: its sys.argv[1:]

  --cluster ADDRESS
               runs pools and processes on the Dask cluster whose scheduler has that
               address, for example tls://host:8786; they share queues, locks and the
               like, and the objects of managers

  -h, --help   shows this text
  --version    shows the version
"""


def main(arguments: list[str]) -> None:
    """Runs the program that the command line names. Returns or raises as the program does."""
    try:
        code, module = _load(arguments)
    except Exception as error:  # the program is not valid Python, or a package that contains it cannot be imported
        part = main_script.program_part(error.__traceback__)
        sys.excepthook = _showing_from(part, sys.excepthook)
        raise
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    try:
        exec(code, module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        # raised again, so that the interpreter ends as it should (by a signal after Ctrl-C); shown without our frames
        trace = error.__traceback__
        sys.excepthook = _showing_from(trace.tb_next if trace else None, sys.excepthook)
        raise


def _load(arguments: list[str]) -> tuple[CodeType, ModuleType]:
    """Returns the code of the program and the module to run it in. Sets sys.argv and sys.path, and the alias."""
    arguments = _taken_cluster(arguments)
    option = arguments[0] if arguments else "--help"
    if option in ("-h", "--help"):
        print(HELP, end="")
        sys.exit(0 if arguments else 2)
    if option in ("-V", "--version"):
        from procession import __version__

        print(f"procession {__version__}")
        sys.exit(0)
    if option in ("-m", "-c") and len(arguments) == 1:
        _refuse(f"{option} needs an argument")
    if option.startswith(("-m", "-c")):
        value, rest = (option[2:], arguments[1:]) if len(option) > 2 else (arguments[1], arguments[2:])
        return _load_module(value, rest) if option[1] == "m" else _load_text(value, rest)
    if option == "-":
        return _load_stdin(arguments)
    if option.startswith("-"):
        _refuse(f"unknown option {option}")
    return _load_file(option, arguments)


def _taken_cluster(arguments: list[str]) -> list[str]:
    """Evaluates `--cluster ADDRESS` at the beginning of the arguments. Returns the others."""
    option, equals, address = arguments[0].partition("=") if arguments else ("", "", "")
    if option != "--cluster":
        return arguments
    rest = arguments[1:]
    if not equals:
        address, *rest = rest or [""]
    if not address or not rest:
        _refuse("--cluster needs the address of a scheduler, and a program after it")
    from procession._cluster import whole_program

    try:
        whole_program.use(address)
    except ValueError as error:
        _refuse(f"--cluster: {error}")
    return rest


def _load_file(path: str, argv: list[str]) -> tuple[CodeType, ModuleType]:
    sys.argv[:] = argv
    found = None if path.endswith((".py", ".pyc")) and os.path.isfile(path) else _main_of(path)
    if found is not None:
        return found
    _alias.install()
    _set_path(os.path.dirname(os.path.realpath(path)))
    try:
        # the path is made absolute, and stays otherwise as it was given
        return main_script.read_script(os.path.join(os.getcwd(), path), "__main__")
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def _main_of(path: str) -> tuple[CodeType, ModuleType] | None:
    """Returns code and module of a folder or zip file, which is put on sys.path also with -P or -I."""
    path = os.path.abspath(path)
    try:
        found = main_script.main_inside(path, "__main__")
    except ImportError as error:
        _refuse(str(error), 1)
    if found is not None:
        _alias.install()
        _set_path(path, always=True)
    return found


def _load_module(name: str, arguments: list[str]) -> tuple[CodeType, ModuleType]:
    _alias.install()
    sys.argv[:] = ["-m", *arguments]  # the value that packages see while they are imported
    try:
        code, module = main_script.find_module(name, "__main__")
    except ImportError as error:
        if error.name is None or not f"{name}.__main__".startswith(error.name):
            raise
        _refuse(str(error), 1)
    sys.argv[0] = module.__file__ or name
    return code, module


def _load_text(text: str, arguments: list[str]) -> tuple[CodeType, ModuleType]:
    _alias.install()
    sys.argv[:] = ["-c", *arguments]
    _set_path("")
    return compile(text, "<string>", "exec", dont_inherit=True), main_script.new_module("__main__")


def _load_stdin(argv: list[str]) -> tuple[CodeType, ModuleType]:
    _alias.install()
    sys.argv[:] = argv
    _set_path("")
    code = compile(sys.stdin.buffer.read(), main_script.STDIN, "exec", dont_inherit=True)
    return code, main_script.new_module("__main__", main_script.STDIN)


def _set_path(first: str, always: bool = False) -> None:
    """Replaces the folder that `python -m` has put first. (With -P and -I it has put none.)"""
    if not sys.flags.safe_path:
        sys.path[0] = first
    elif always:
        sys.path.insert(0, first)


def _refuse(why: str, code: int = 2) -> NoReturn:
    print(f"procession: {why}" if code == 1 else f"procession: {why}\n{USAGE}", file=sys.stderr)
    sys.exit(code)


def _showing_from(trace: TracebackType | None, show: Hook) -> Hook:
    def hook(kind: type[BaseException], error: BaseException, whole: TracebackType | None) -> object:
        return show(kind, error.with_traceback(trace), trace)

    return hook


if __name__ == "__main__":
    main(sys.argv[1:])
