"""Modules of which there is nothing without the extension. They can be imported, and so can each of their names.

A name is a class that cannot be called: so it stands in annotations and after `isinstance` as on Linux. A library can
import it in any case, and gets the error only if it uses it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from .errors import refusal

__all__ = ["Maker", "stand_in"]


class _Absent(type):
    """The class of the classes that stand for absent names."""

    _instead: str

    def __call__(cls, *args: Any, **keywords: Any) -> NoReturn:
        raise refusal(cls._shown(), cls._instead)

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):  # the interpreter and tools ask for these
            raise AttributeError(name)
        raise refusal(f"{cls._shown()}.{name}", cls._instead)

    def _shown(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"

    def __class_getitem__(cls, item: object) -> Any:
        return cls

    def __getitem__(cls, item: object) -> Any:
        return cls


def stand_in(module: str, name: str, instead: str) -> Any:
    """Makes what stands for a name of a module of which there is nothing here."""
    return _Absent(name, (), {"__module__": module, "_instead": instead})


class _Module(ModuleType):
    """A module with a stand-in for each name that a program asks for."""

    _instead: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name == "main":  # of the command `procession`
            return self._main
        made = stand_in("procession" if "._" in self.__name__ else self.__name__, name, self._instead)
        setattr(self, name, made)
        return made

    def __call__(self, *args: Any) -> NoReturn:
        raise refusal(f"{self.__name__}()", self._instead)

    def _main(self) -> int:
        print(f"procession: {refusal('this command', self._instead)}", file=sys.stderr)
        return 1


class Maker:
    """A loader that makes such a module."""

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_instead"] = self._instead

    def get_code(self, name: str) -> Any:
        """Returns what `python -m` runs."""
        return compile(f"import sys, {name}\nsys.exit({name}.main())", f"<{name}>", "exec")
