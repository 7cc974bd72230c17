"""Tells PyInstaller about this package. PyInstaller finds this folder by an entry point of the wheel."""

import os

__all__ = ["folders"]


def folders() -> list[str]:
    """Returns the folders with the hooks."""
    return [os.path.dirname(__file__)]
