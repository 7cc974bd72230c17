"""Lists all modules of the package for PyInstaller, since Rust imports some, and others are imported by name only."""

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped]

hiddenimports = collect_submodules("procession", filter=lambda name: "_pyinstaller" not in name)
excludedimports = ["test"]  # of the standard library: needed only by a function for its own test suite
