"""A bundle in the making: written beside its place, listed, signed, and moved there whole.

Nobody ever sees half a bundle: the folder gets its name when everything in it is on the disk. Where
the work is cut off, what is left carries a name that begins with a dot and ends in ``.part``.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.bundle.layout import FORMAT, MANIFEST, MANIFEST_NOTE
from freehold.canonical.json import encode
from freehold.errors import Conflict
from freehold.evidence.notes import Signer, sign_note
from freehold.lab.atomic import storage_errors, sync_directory
from freehold.models.manifest import FileEntry, hash_files

_COPY_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was sealed: the SHA-256 of the manifest, how many files, and their bytes."""

    digest: str
    files: int
    size: int


class Staging:
    """Files of one bundle below a temporary folder. Names are POSIX paths inside the bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.personal: set[str] = set()

    def path(self, name: str) -> Path:
        """Return where a file goes; its folder is there afterwards."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.path(name).write_bytes(data)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file as UTF-8 with Unix line ends."""
        self.write(name, text.encode("utf-8"))

    def write_record(self, name: str, record: Any) -> None:
        """Write canonical JSON."""
        self.write(name, encode(record))

    def write_rows(self, name: str, rows: Iterable[Any]) -> int:
        """Write canonical JSON Lines; return how many."""
        count = 0
        with self.path(name).open("wb") as file:
            for row in rows:
                file.write(encode(row) + b"\n")
                count += 1
        return count

    def copy(self, name: str, source: Path) -> None:
        """Copy a file's bytes: never a link, which would share the lab's own file."""
        shutil.copyfile(source, self.path(name))

    def mark_personal(self, *names: str) -> None:
        """Note files or folders that hold what came from people or is about them."""
        self.personal.update(names)

    def seal(self, signer: Signer) -> Sealed:
        """Write the manifest over every file, and sign it."""
        found = {path.relative_to(self.root).as_posix(): path for path in _files(self.root)}
        hashed = hash_files(found)
        entries = [hashed[name] for name in sorted(hashed)]
        data = encode([_listed(entry) for entry in entries])
        (self.root / MANIFEST).write_bytes(data)
        digest = hash_files({MANIFEST: self.root / MANIFEST})[MANIFEST].sha256
        note = sign_note(f"{FORMAT}\n{digest}\n", signer)
        (self.root / MANIFEST_NOTE).write_text(note, encoding="utf-8", newline="")
        size = sum(entry.size for entry in entries) + len(data) + len(note.encode())
        return Sealed(f"sha256:{digest}", len(entries) + 2, size)


@contextmanager
def staged(target: Path, finish: Callable[[], None] | None = None) -> Iterator[Staging]:
    """Give a folder to write into, and move it to `target` when the block ends well.

    Raises Conflict where something is at `target` already, StorageFull or ReadOnlyLab where it
    cannot be written; nothing is left behind. `finish` is called when all is durable, just before
    the move.
    """
    target = target.absolute()
    _refuse_existing(target)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with storage_errors(target):
            draft.mkdir(parents=True, mode=0o755)
            yield Staging(draft)
            _make_durable(draft)
            if finish is not None:
                finish()
            _refuse_existing(target)
            _move(draft, target)
            sync_directory(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError as error:
        # Another process put something there between the look and the move.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _exists(target) from error
        raise


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise _exists(target)


def _exists(target: Path) -> Conflict:
    return Conflict(
        f"{target} is there already; nothing is ever overwritten", hint="Choose a new folder."
    )


def _listed(entry: FileEntry) -> dict[str, Any]:
    return {"path": entry.path, "size": entry.size, "sha256": entry.sha256}


def _files(root: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(root):
        yield from (Path(parent, name) for name in names)


def _make_durable(root: Path) -> None:
    for parent, _, names in os.walk(root, topdown=False):
        for name in names:
            descriptor = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(parent))
