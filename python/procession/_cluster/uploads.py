"""Files that a client sends to all nodes, for the workers and processes there: modules above all.

A node keeps them in a folder of its Dask worker, one for each client, which is the last entry of `sys.path` in what it
starts for that client. So two clients may use different versions of a module. The folder is removed when the client
closes its connection; if the client is killed, when the Dask worker ends. The node itself imports none of the files.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["append", "folder_of", "pack", "prepare", "remove", "store"]

_LEFT_OUT = ("__pycache__", ".git", ".venv")


def pack(path: str | os.PathLike[str]) -> bytes:
    """Returns a file or folder as an archive. Links are replaced by what they lead to; broken links are left out.

    Raises:
        OSError: it cannot be read.
        ValueError: it contains a pipe, a socket or a device.
    """
    path = os.path.abspath(os.fspath(path))
    os.stat(path)  # raises the usual error, with the name
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:  # what links lead to, since nodes lack it
        for place, name in _tree(path, os.path.basename(path), ()):
            archive.add(place, name, recursive=False, filter=_checked)
    return file.getvalue()


def _tree(place: str, name: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yields the path and the name of a file, or of a folder and all that is in it. above: folders that contain it."""
    if not os.path.isdir(place):
        yield place, name
        return
    real = os.path.realpath(place)
    if real in above:  # a link to a folder that contains it
        return
    yield place, name
    for entry in sorted(os.listdir(place)):
        inner = os.path.join(place, entry)
        if entry not in _LEFT_OUT and os.path.exists(inner):
            yield from _tree(inner, os.path.join(name, entry), (*above, real))


def _checked(member: tarfile.TarInfo) -> tarfile.TarInfo:
    if not member.isfile() and not member.isdir():
        raise ValueError(f"{member.name!r} is neither a file nor a folder, and cannot be sent to nodes")
    return member


# --- on a node ---


def folder_of(client: str, dask_worker: Any) -> str:
    """Returns the path of the folder of a client. client: a name that no other client has."""
    return os.path.join(dask_worker.local_directory, "procession-uploads", client)


def prepare(client: str, dask_worker: Any) -> None:
    """Makes the folder. It is there from the beginning: Python does not look again for one that was missing."""
    os.makedirs(folder_of(client, dask_worker), exist_ok=True)


def remove(client: str, dask_worker: Any) -> None:
    """Removes the folder, when the client has gone."""
    shutil.rmtree(folder_of(client, dask_worker), ignore_errors=True)


def append(folder: str) -> None:
    """Puts the folder at the end of `sys.path`, in a worker or process."""
    if folder not in sys.path:
        sys.path.append(folder)


def store(archive: bytes, client: str, dask_worker: Any) -> None:
    """Unpacks an archive. Each file replaces its predecessor in one step, so a worker never reads half of one. What an
    earlier upload of a folder had and this one has not is removed.

    ValueError: it contains something else than files and folders, or a name that leads elsewhere.
    """
    folder = folder_of(client, dask_worker)
    stored: list[str] = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            place = os.path.normpath(os.path.join(folder, member.name))
            if not place.startswith(folder + os.sep):
                raise ValueError(f"{member.name!r} would be stored outside the folder of uploads")
            stored.append(place)
            if member.isdir():
                os.makedirs(place, exist_ok=True)
            elif content := members.extractfile(member):
                os.makedirs(os.path.dirname(place), exist_ok=True)
                _write(place, content.read(), member.mode & 0o755)
            else:
                raise ValueError(f"{member.name!r} is neither a file nor a folder")
    _remove_others(stored)


def _remove_others(stored: list[str]) -> None:
    """Removes what is in the folder that was stored (the first path) and is not one of these paths."""
    kept = set(stored)
    for place, _, files in os.walk(stored[0], topdown=False):
        if place not in kept:
            shutil.rmtree(place, ignore_errors=True)
            continue
        for name in files:
            if (path := os.path.join(place, name)) not in kept:
                with suppress(FileNotFoundError):
                    os.unlink(path)


def _write(place: str, content: bytes, mode: int) -> None:
    new = f"{place}.{os.getpid()}.new"
    try:
        with open(new, "wb") as file:
            file.write(content)
        os.chmod(new, mode)
        with suppress(FileNotFoundError):
            # Python takes compiled code for up to date if the source has the same size and second.
            later = max(time.time(), int(os.stat(place).st_mtime) + 1)
            os.utime(new, (later, later))
        os.replace(new, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)
