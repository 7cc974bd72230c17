"""What a program can see of a package from outside: modules, names, signatures, and how two packages differ in them."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

OURS, THEIRS = "procession", "multiprocessing"
FOR_WINDOWS = {"popen_spawn_win32"}

# Of defaults, those that say something. An object that stands for "not given" may be another one.
PLAIN = (bool, int, float, str, bytes, type(None))


def modules() -> list[str]:
    """The names of multiprocessing's modules on the running Python; "" is the package itself."""
    found = [about.name.partition(".")[2] for about in pkgutil.walk_packages(multiprocessing.__path__, THEIRS + ".")]
    return ["", *(name for name in found if name not in FOR_WINDOWS)]


def module_of(package: str, name: str) -> ModuleType:
    return importlib.import_module(f"{package}.{name}" if name else package)


def exported(module: ModuleType) -> dict[str, Any]:
    """The names without an underscore that a module defines itself, or lists in __all__. What it merely imports for its
    own use is nobody's business."""
    listed = set(getattr(module, "__all__", ()))
    found = {}
    for name, value in vars(module).items():
        home = getattr(value, "__module__", None)
        own = not isinstance(value, ModuleType) and home in (None, module.__name__)
        if not name.startswith("_") and (own or name in listed):
            found[name] = value
    return found


def members(kind: type) -> dict[str, Any]:
    """The attributes without an underscore of a class and of its bases in the same package."""
    package = kind.__module__.partition(".")[0]
    bases = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == package]
    return {name: getattr(kind, name) for base in bases for name in vars(base) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]] | None:
    """Name, kind and default of each parameter; None where nobody can tell."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if found and found[0].name == "self":  # which is positional only where it is compiled
        del found[0]
    return [
        (
            "" if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) else p.name,
            p.kind,
            p.default if isinstance(p.default, PLAIN) else repr(p.default),
        )
        for p in found
    ]


def takes_as_much(ours: Any, theirs: Any) -> bool:
    """Whether each call that theirs takes means the same to ours, which may have more parameters, by keyword only.

    `*, ctx` of theirs, which users never give, may have a default.
    """
    wanted, got = parameters(theirs), parameters(ours)
    if wanted is None or got is None:
        return wanted is None
    names = {name for name, _, _ in wanted}
    rest = [parameter for parameter in got if parameter[0] in names]
    more = [kind for name, kind, _ in got if name not in names]
    same = [
        mine == yours or (mine[:2] == yours[:2] == ("ctx", inspect.Parameter.KEYWORD_ONLY))
        for mine, yours in zip(rest, wanted, strict=False)
    ]
    by_keyword = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
    return len(rest) == len(wanted) and all(same) and all(kind in by_keyword for kind in more)


def differences(name: str) -> dict[str, str]:
    """What a program would miss in our module of that name: dotted name -> in what it differs."""
    return dict(_differing(name, module_of(OURS, name), module_of(THEIRS, name)))


def _differing(name: str, ours: ModuleType, theirs: ModuleType) -> Iterator[tuple[str, str]]:
    for missing in set(getattr(theirs, "__all__", ())) - set(ours.__all__):
        yield _dotted(name, missing), "not in __all__"
    for known, value in exported(theirs).items():
        path = _dotted(name, known)
        if not hasattr(ours, known):
            yield path, "missing"
        elif inspect.ismodule(value):
            pass
        else:
            yield from _differing_value(path, getattr(ours, known), value)


def _differing_value(path: str, ours: Any, theirs: Any) -> Iterator[tuple[str, str]]:
    if isinstance(ours, type) != isinstance(theirs, type) or callable(ours) != callable(theirs):
        yield path, f"is {ours!r} and not like {theirs!r}"
        return
    if isinstance(theirs, PLAIN) and ours != theirs:
        yield path, f"is {ours!r} and not {theirs!r}"
    if callable(theirs) and not takes_as_much(ours, theirs):
        yield path, f"takes {_signature(ours)} and not {_signature(theirs)}"
    home = getattr(theirs, "__module__", None) or ""
    if isinstance(theirs, type) and home.partition(".")[0] == THEIRS:
        if (ours.__module__, ours.__qualname__) != (home.replace(THEIRS, OURS), theirs.__qualname__):
            yield path, f"is called {ours.__module__}.{ours.__qualname__}"
        if _bases(ours) < _bases(theirs):
            yield path, f"does not derive from {_bases(theirs) - _bases(ours)}"
        for known, value in members(theirs).items():
            if not hasattr(ours, known):
                yield f"{path}.{known}", "missing"
            elif callable(value) and not isinstance(value, type):
                yield from _differing_value(f"{path}.{known}", getattr(ours, known), value)


def _signature(function: Any) -> str:
    return re.sub(r": '[^']*'| -> .*", "", str(inspect.signature(function)))


def _bases(kind: type) -> set[str]:
    """The classes that it derives from and users can name, in the words of our package."""
    return {f"{base.__module__.replace(THEIRS, OURS)}.{base.__qualname__}" for base in kind.__mro__[1:]}


def _dotted(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def normalised(text: str) -> str:
    """A repr in the words of our package, without what is another one each time: addresses, pids."""
    text = text.replace(THEIRS, OURS)
    return re.sub(r"0x[0-9a-f]+|(?<=pid=)\d+|(?<=parent=)\d+|(?<=handle )\d+", "N", text)
