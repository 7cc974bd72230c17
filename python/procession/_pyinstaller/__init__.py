"""What PyInstaller is told about this package. It finds this folder by an entry point of the wheel's."""

import os

__all__ = ["folders"]


def folders() -> list[str]:
    """Where the hooks are."""
    return [os.path.dirname(__file__)]
