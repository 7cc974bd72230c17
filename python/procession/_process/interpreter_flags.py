"""The command-line options of this interpreter, for its children."""

from __future__ import annotations

import sys

__all__ = ["interpreter_options"]

# fields of sys.flags that count how often an option was given
_COUNTED = {
    "optimize": "O",
    "debug": "d",
    "dont_write_bytecode": "B",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
    "quiet": "q",
}
_ISOLATING = {"ignore_environment": "-E", "no_user_site": "-s", "safe_path": "-P"}


def interpreter_options() -> list[str]:
    """Returns the options that give a new interpreter the flags, warning filters and -X options of this one.

    -i is left out: a child has no terminal of its own.
    """
    flags = sys.flags
    options = [f"-{letter * n}" for field, letter in _COUNTED.items() if (n := int(getattr(flags, field)))]
    if flags.isolated:
        options.append("-I")
    else:
        options += [option for field, option in _ISOLATING.items() if getattr(flags, field, False)]

    # -b and -X dev have added filters that the child adds by itself
    implied = {1: {"default::BytesWarning"}, 2: {"error::BytesWarning"}}.get(min(flags.bytes_warning, 2), set())
    if flags.dev_mode:
        implied = implied | {"default"}
    options += [f"-W{filter}" for filter in sys.warnoptions if filter not in implied]

    extended: dict[str, object] = dict(sys._xoptions)
    if flags.dev_mode:
        extended.setdefault("dev", True)
    for name, value in extended.items():
        options += ["-X", name if value is True else f"{name}={value}"]
    return options
