"""Files that a client sends to all nodes, for the workers and processes there: modules above all.

A node keeps them in a folder of its Dask worker, which is the last entry of `sys.path` in what it starts. They go when
the Dask worker ends. The node itself imports none of them.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["pack", "prepare", "store"]

_LEFT_OUT = ("__pycache__", ".git", ".venv")


def pack(path: str | os.PathLike[str]) -> bytes:
    """Returns a file or folder as an archive.

    Raises:
        OSError: it cannot be read.
        ValueError: it contains a pipe, a socket or a device.
    """
    path = os.path.abspath(os.fspath(path))
    os.stat(path)  # raises the usual error, with the name
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:  # what links lead to, since nodes lack it
        archive.add(path, os.path.basename(path), filter=_kept)
    return file.getvalue()


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if os.path.basename(member.name) in _LEFT_OUT:
        return None
    if not member.isfile() and not member.isdir():
        raise ValueError(f"{member.name!r} is neither a file nor a folder, and cannot be sent to nodes")
    return member


# --- on a node ---


def _folder(dask_worker: Any) -> str:
    return os.path.join(dask_worker.local_directory, "procession-uploads")


def prepare(dask_worker: Any) -> None:
    """Makes the folder, and puts it at the end of `sys.path`, which workers and processes take over."""
    folder = _folder(dask_worker)
    os.makedirs(folder, exist_ok=True)
    if folder not in sys.path:
        sys.path.append(folder)


def store(archive: bytes, dask_worker: Any) -> None:
    """Unpacks an archive. Each file replaces its predecessor in one step, so a worker never reads half of one.

    ValueError: it contains something else than files and folders, or a name that leads elsewhere.
    """
    folder = _folder(dask_worker)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            place = os.path.normpath(os.path.join(folder, member.name))
            if not place.startswith(folder + os.sep):
                raise ValueError(f"{member.name!r} would be stored outside the folder of uploads")
            if member.isdir():
                os.makedirs(place, exist_ok=True)
            elif content := members.extractfile(member):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                _write(place, content.read(), member.mode & 0o755)
            else:
                raise ValueError(f"{member.name!r} is neither a file nor a folder")


def _write(place: str, content: bytes, mode: int) -> None:
    new = f"{place}.{os.getpid()}.new"
    try:
        with open(new, "wb") as file:
            file.write(content)
        os.chmod(new, mode)
        os.replace(new, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)
