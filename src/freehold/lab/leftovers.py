"""Files that a killed process left behind: half written, or named by no row.

Every file is written before the row that names it, so a kill may leave a file and never a row
without one. What is younger than the grace belongs to a process that may still be at work.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from freehold.lab.opened import Lab
from freehold.lab.schema import payloads

GRACE_SECONDS = 3600.0
_AT_ONCE = 400
_SCRATCH = ("planning-", "from-lab-")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What may be removed: payload files of no row, files half written, work folders of nobody."""

    payloads: tuple[Path, ...] = ()
    partial: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.payloads, *self.partial, *self.scratch)


def find_leftovers(lab: Lab, *, grace: float = GRACE_SECONDS) -> Leftovers:
    """Return what was left behind more than `grace` seconds ago."""
    before = time.time() - grace
    with lab.reading() as connection:
        unnamed = tuple(path for path in _unnamed_payloads(lab, connection) if _older(path, before))
    stores = (lab.layout.payloads, lab.layout.objects, lab.layout.keys)
    partial = tuple(
        path
        for store in stores
        for path in _files(store)
        if (path.name.endswith(".part") or path.parent.name == "incoming") and _older(path, before)
    )
    folders = (lab.layout.scratch, lab.layout.scratch / "runs")
    scratch = tuple(
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.name.startswith(_SCRATCH) and _older(path, before)
    )
    return Leftovers(unnamed, partial, scratch)


def remove(leftovers: Leftovers) -> int:
    """Remove what was found; return how many files and folders went."""
    for path in leftovers.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers.paths)


def _unnamed_payloads(lab: Lab, connection: Connection) -> Iterator[Path]:
    paths = [path for path in _files(lab.layout.payloads) if path.name.startswith("pay_")]
    for start in range(0, len(paths), _AT_ONCE):
        some = {path.name: path for path in paths[start : start + _AT_ONCE]}
        query = select(payloads.c.payload_id).where(payloads.c.payload_id.in_(some))
        known = set(connection.execute(query).scalars())
        yield from (path for name, path in some.items() if name not in known)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _older(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime < before
    except FileNotFoundError:
        return False  # its writer has just finished with it
