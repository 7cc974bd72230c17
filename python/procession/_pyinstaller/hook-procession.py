"""For PyInstaller: all modules of the package, since some are imported from Rust or by a name only."""

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped]

hiddenimports = collect_submodules("procession", filter=lambda name: "_pyinstaller" not in name)
excludedimports = ["test"]  # of the standard library: a function for its own test suite's modules
