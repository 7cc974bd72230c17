"""The error for what needs the extension."""

from __future__ import annotations

__all__ = ["NotNativeError", "refusal"]


class NotNativeError(NotImplementedError, AttributeError):
    """Raised when a program uses what needs the extension: on Linux, with its wheel.

    It is a NotImplementedError. It is an AttributeError as well, so that `hasattr` and `getattr` with a default tell
    what an object has.
    """


def refusal(what: str, instead: str = "") -> NotNativeError:
    """Returns the error for a use of `what`. instead: what the program can use in its place."""
    from .. import _plain

    other = f"; use {instead}" if instead else ""
    return NotNativeError(f"{what} needs procession's extension, which is not used here: {_plain.reason}{other}")
