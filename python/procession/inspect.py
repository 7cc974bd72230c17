"""Looks into running and hung programs from outside: who waits for whom, what runs, what memory is used for.

The module is the function: `procession.inspect(pid)` looks at the family of that process, and `procession.inspect()` at
the family of this process. `python -m procession.inspect why PID` is the command `procession why PID`.

The observer reads the memory of the family and asks the kernel. It locks, writes, signals and stops nothing, and needs
nothing of the observed processes. Linux lets a process look at processes of the same user; see docs/inside.md for what
needs more.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import ModuleType

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TextIO

__all__ = ["Family", "Record", "inspect", "main", "set_stall_report"]


class Record(Mapping[str, "Any"]):
    """A part of the model: its fields are attributes, and keys of a mapping.

    The fields are those of the JSON that `procession ps --json PID` prints; docs/inside.md describes them.
    """

    __slots__ = ("_fields",)
    _fields: dict[str, Any]

    def __init__(self, fields: dict[str, Any]) -> None:
        object.__setattr__(self, "_fields", {name: _record(value) for name, value in fields.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}") from None

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a record of a look does not change")

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_plain, (type(self), self._fields))


class Family(Record):
    """A family at one look. `findings` lists what is wrong, and `str()` of it is the text of `procession why`."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, fields: dict[str, Any], text: str) -> None:
        super().__init__(fields)
        object.__setattr__(self, "_text", text)

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        return (_plain, (type(self), self._fields, self._text))


def _plain(kind: type[Record], fields: dict[str, Any], *more: str) -> Record:
    return kind(fields, *more)


def _record(value: Any) -> Any:
    if isinstance(value, dict):
        return Record(value)
    if isinstance(value, list):
        return [_record(item) for item in value]
    return value


def inspect(pid: int | None = None) -> Family:
    """Looks at a family once.

    Args:
        pid: A process of the family. None: this process.

    Returns:
        The model of the family: `members`, `objects`, `memory`, `findings` and more. It is a copy; the family runs on.

    Raises:
        LookupError: There is no such process, or it belongs to no family. A process joins one when it makes its first
            shared object or starts its first child.
        PermissionError: This user may not look at the process. The text names the missing permission.
        RuntimeError: The family runs another version of Procession, or its memory is damaged.
        MemoryError: The limit on the address space of this process leaves no room for a look.
    """
    found, text = _core._inspect_family(os.getpid() if pid is None else pid)
    report = json.loads(found)
    return Family({**report["family"], "findings": report["findings"]}, text)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command `procession`.

    Args:
        arguments: The command line without the name of the program. None: `sys.argv[1:]`, and the process is this
            command, which handles signals itself. Otherwise signals are the program's: an exception that one of its
            handlers raises ends a command that goes on, and is raised here.

    Returns:
        The exit status: 0 nothing wrong, 1 `why` has found something, 2 the family cannot be looked at, or the command
        line is wrong. A command that goes on (`top`, `progress`, `trace`, `serve`, `metrics --listen`) ends with 0 when
        SIGINT, SIGTERM or SIGHUP ends it.
    """
    own_signals = arguments is None
    if arguments is None:
        # Ctrl-C ends the command at once, or as the command itself says. Python's handler would only run at its end.
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        arguments = sys.argv[1:]
    if arguments[:1] == ["why"] and any(word.partition("=")[0] == "--cluster" for word in arguments):
        from ._cluster.sync import why

        return why.main(arguments[1:])
    output, errors, status = _core._inspect_command(arguments, own_signals)
    if sys.stdout is None:  # the command was started with a closed standard output
        return (
            _tell("procession: writing the output: standard output is closed\n", 2) if output else _tell(errors, status)
        )
    try:
        sys.stdout.write(_encodable(output, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer cannot be written either
        return _tell(f"procession: writing the output: {error}\n", 2)
    return _tell(errors, status)


def _tell(errors: str, status: int) -> int:
    """Writes to standard error, if it is open and can be written; returns the exit status."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(_encodable(errors, sys.stderr))
    return status


def _encodable(text: str, stream: TextIO) -> str:
    """The text with other characters in place of those that the terminal does not have, be they ours or in names."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        for ours, plain in (("→", "->"), ("├ ", "|-"), ("└ ", "`-"), ("│", "|"), ("≥ ", ">="), ("µ", "u")):
            text = text.replace(ours, plain)  # columns stay as wide as they are
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


_VARIABLE = "PROCESSION_STALL"


def set_stall_report(seconds: float | None) -> None:
    """Reports long waits: prints `procession why` to standard error when a thread waits too long, which then waits on.

    These waits count: `join` of a process or a queue, `get` and `put` of a queue, `get` of a result, and `acquire` of
    a lock or semaphore. Each is reported once. The thread that waits makes the report itself: it needs no other
    thread, and not the interpreter lock. Children inherit the setting, as they inherit the environment variable
    PROCESSION_STALL, which sets it for a whole program.

    Args:
        seconds: How long a wait may take. None: nothing is reported.

    Raises:
        ValueError: `seconds` is not a positive number.
    """
    if seconds is None:
        os.environ.pop(_VARIABLE, None)
        _core._report_stalls(0.0)
        return
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, and is {seconds!r}")
    os.environ[_VARIABLE] = f"{seconds:g}"
    _core._report_stalls(float(seconds))


def _set_from_environment() -> None:
    """Sets what the environment says. A forked child goes on with the setting of its parent."""
    text = os.environ.get(_VARIABLE)
    if text is None:
        return
    try:
        seconds = float(text)
        if not seconds > 0:
            raise ValueError(text)
    except ValueError:
        import warnings

        warnings.warn(f"{_VARIABLE} is {text!r}, which is not a positive number of seconds", stacklevel=2)
        return
    _core._report_stalls(seconds)


class _CallableModule(ModuleType):
    def __call__(self, pid: int | None = None) -> Family:
        return inspect(pid)


if __name__ == "__main__":
    sys.exit(main())

_CallableModule.__call__.__doc__ = inspect.__doc__
sys.modules[__name__].__class__ = _CallableModule
