"""Files that are wholly there or not there at all, also after the power went.

Evidence is written in this one way: to a new file on the same disk, made durable, then renamed over
the old one. A reader sees the old bytes or the new ones, never a part.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from freehold.errors import LabError, ReadOnlyLab, StorageFull


def write_durably(
    path: Path, data: bytes, *, scratch: Path | None = None, mode: int = 0o644
) -> None:
    """Put ``data`` at ``path`` atomically and durably, making the folders above it.

    The new file is prepared in ``scratch`` (on the same disk), or beside ``path``. Raises
    StorageFull, ReadOnlyLab or LabError; ``path`` then holds what it held before.
    """
    place_durably(path, data, scratch=scratch, mode=mode)
    sync_folders([path.parent])


def place_durably(
    path: Path, data: bytes, *, scratch: Path | None = None, mode: int = 0o644
) -> None:
    """Do as `write_durably`, but leave the folder for a later `sync_folders`: many files, one sync.

    Without that the file is whole whenever it is seen, but a crash may still take its name away.
    """
    folder = scratch or path.parent
    prepared = folder / f".{path.name}.{os.getpid()}.tmp"
    try:
        make_folders(path.parent)
        make_folders(folder)
        _write_synced(prepared, data, mode)
        prepared.replace(path)
    except OSError as error:
        prepared.unlink(missing_ok=True)
        raise _refusal(path, error) from error


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, each durably named in its parent."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folders([folder.parent])


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the names in these folders durable."""
    for folder in sorted(set(folders)):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_synced(path: Path, data: bytes, mode: int) -> None:
    # The mode is set at creation: a private key is at no moment readable by others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _refusal(path: Path, error: OSError) -> LabError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull(f"no space left to write {path}", file=str(path))
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return ReadOnlyLab(f"no permission to write {path}", file=str(path))
    return LabError(f"cannot write {path}: {error}", file=str(path))
