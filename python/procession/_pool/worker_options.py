"""Checks the options of pools that concern what a worker does, and not how the engine hands out tasks."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["checked"]


def checked(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Returns those of the options that have one of the names and are set. Raises TypeError or ValueError."""
    made: dict[str, Any] = {}
    for name in names:
        if (value := given.get(name)) is not None and (checked := _CHECKS[name](value)) is not None:
            made[name] = checked
    return made


def _env(env: Any) -> dict[str, str | None]:
    try:
        made = dict(env)
    except (TypeError, ValueError):
        raise TypeError(f"env must be a mapping of environment variables, not {env!r}") from None
    for name, value in made.items():
        if not isinstance(name, str) or not isinstance(value, str | None):
            raise TypeError(f"env must map strings to strings or None, not {name!r} to {value!r}")
        if not name or "=" in name or "\0" in name + (value or ""):
            raise ValueError(f"env: {name!r} and {value!r} cannot be an environment variable")
        try:
            os.fsencode(name + (value or ""))
        except UnicodeEncodeError as error:
            raise ValueError(f"env: {name!r} and {value!r} cannot be an environment variable: {error}") from None
    return made


def _exit_function(function: Any) -> Any:
    if not callable(function):
        raise TypeError("exit_function must be a callable")
    return function


def _pin(pin: Any) -> str | list[list[int]]:
    if not hasattr(os, "sched_setaffinity"):
        raise NotImplementedError("pin needs a system that binds processes to CPUs, as Linux does")
    if isinstance(pin, str):
        if pin != "cores":
            raise ValueError(f'pin must be "cores" or a list of CPUs, not {pin!r}')
        return pin
    try:
        items = list(pin)
        made = [sorted({item} if isinstance(item, int) else set(item)) for item in items]
    except TypeError:
        raise TypeError(f'pin must be "cores" or a list of CPUs or of sets of CPUs, not {pin!r}') from None
    if not made or not all(made):
        raise ValueError(f"pin must name at least one CPU for each worker, not {pin!r}")
    allowed = os.sched_getaffinity(0)
    for cpu in (cpu for cpus in made for cpu in cpus):
        if not isinstance(cpu, int) or isinstance(cpu, bool):
            raise TypeError(f"pin: a CPU must be an integer, not {cpu!r}")
        if cpu not in allowed:
            raise ValueError(f"pin: this process may not use CPU {cpu}, only {sorted(allowed)}")
    return made


def _logs(logs: Any) -> bool | None:
    return bool(logs) or None


def _output(output: Any) -> Any:
    if output != "forward" and not callable(output):
        raise TypeError(f'output must be "forward", a callable or None, not {output!r}')
    return output


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "env": _env,
    "exit_function": _exit_function,
    "logs": _logs,
    "output": _output,
    "pin": _pin,
}
