"""The code of a script or module that is to run as `__main__`, and the module object in which it runs."""

from __future__ import annotations

import _io
import os
import sys

from .. import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType, TracebackType

__all__ = [
    "STDIN",
    "find_module",
    "is_imported",
    "main_inside",
    "main_module",
    "new_module",
    "program_part",
    "read_script",
]

STDIN = "<stdin>"  # the __file__ of a program that was read from standard input


def read_script(path: str, run_name: str) -> tuple[CodeType, ModuleType]:
    """Returns the code of a Python file, source or .pyc, and a module with that name to run it in.

    OSError: the file cannot be read. SyntaxError, ImportError: it is not Python, or of another version.
    """
    try:
        # importing importlib would take time in each child
        from _frozen_importlib_external import SourceFileLoader, SourcelessFileLoader
    except ImportError:
        from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader(run_name, path)
        code = compiled.get_code(run_name)
        assert code is not None
        return code, new_module(run_name, path, compiled)
    loader = SourceFileLoader(run_name, path)
    with _io.open_code(path) as file:
        # not the loader's get_code(), which would write a __pycache__ next to the script
        code = compile(file.read(), path, "exec", dont_inherit=True)
    return code, new_module(run_name, path, loader)


def find_module(name: str, run_name: str) -> tuple[CodeType, ModuleType]:
    """Returns the code of an importable module (of a package: its `__main__`), and a module named run_name to run it.

    ImportError: there is none, or it has no code. Importing the packages that contain it may raise anything.
    """
    spec = _find_spec(name)
    if spec is None:
        raise ImportError(f"No module named {name}", name=name)
    if spec.submodule_search_locations is not None:
        if name.rpartition(".")[2] == "__main__":
            raise ImportError(f"{name} is a package, which cannot be run", name=name)
        return find_module(f"{name}.__main__", run_name)
    return _from_spec(spec, name, run_name)


def _find_spec(name: str) -> ModuleSpec | None:
    """Does what importlib.util.find_spec does, which takes milliseconds to import in each child."""
    if name in sys.modules:
        known: ModuleSpec | None = getattr(sys.modules[name], "__spec__", None)
        return known
    package = name.rpartition(".")[0]
    path = None
    if package:
        try:
            path = __import__(package, fromlist=["__path__"]).__path__
        except AttributeError as error:
            raise ModuleNotFoundError(f"{package} is no package, in which {name} could be", name=name) from error
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find_spec is None else find_spec(name, path, None)
        if spec is not None:
            return spec
    return None


def main_inside(path: str, run_name: str) -> tuple[CodeType, ModuleType] | None:
    """Returns code and module of the `__main__` of a folder or zip file; None if path is neither.

    ImportError: it has no `__main__`.
    """
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("__main__", [path])
    if spec is not None:
        return _from_spec(spec, "__main__", run_name)
    if os.path.isdir(path) or sys.path_importer_cache.get(path) is not None:
        raise ImportError(f"there is no __main__ module in {path!r}", name="__main__")
    return None


def is_imported(main: dict[str, str]) -> bool:
    """Returns whether a child imports the main module that `main_module` describes."""
    name, path = main.get("init_main_from_name"), main.get("init_main_from_path")
    if name is not None:
        return name.rpartition(".")[2] != "__main__"
    return path is not None and os.path.splitext(os.path.basename(path))[0] != "ipython"


def main_module() -> dict[str, str]:
    """Returns how a child finds the main module: its name if run with -m, else its file; empty if it has none."""
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    if path is None or path == "<stdin>":  # it cannot be read again
        return {}
    if process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    return {"init_main_from_path": os.path.normpath(path)}


def program_part(trace: TracebackType | None) -> TracebackType | None:
    """Returns a traceback without the frames before the program, and without those of this package at its end.

    None: it has no frames of the program.
    """
    ours = os.path.dirname(os.path.dirname(__file__)) + os.sep  # the folder of the package
    frames = []
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        frames.append((trace, name.startswith((ours, "<frozen runpy", "<frozen importlib")) or name == "<string>"))
        trace = trace.tb_next
    while frames and frames[0][1]:
        del frames[0]
    while frames and frames[-1][1]:
        del frames[-1]
    part = None
    for frame, _ in reversed(frames):
        part = type(frame)(part, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return part


def new_module(name: str, path: str | None = None, loader: object = None) -> ModuleType:
    """Makes an empty module with the attributes that the interpreter gives to `__main__`."""
    import builtins

    module = type(sys)(name)
    module.__dict__.update(__builtins__=builtins, __loader__=loader, __package__=None, __spec__=None)
    if path is not None:
        module.__dict__.update(__file__=path, __cached__=None)
    return module


def _from_spec(spec: object, name: str, run_name: str) -> tuple[CodeType, ModuleType]:
    loader = getattr(spec, "loader", None)
    get_code = getattr(loader, "get_code", None)
    code = get_code(name) if get_code is not None else None
    if code is None:
        raise ImportError(f"{name} has no Python code that could be run", name=name)
    module = new_module(run_name, getattr(spec, "origin", None), loader)
    # as with `python -m`: the name is that of the run, the spec that of the module
    module.__dict__.update(
        __spec__=spec, __package__=getattr(spec, "parent", None), __cached__=getattr(spec, "cached", None)
    )
    return code, module
