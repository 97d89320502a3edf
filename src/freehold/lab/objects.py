"""The store of content-addressed files: weights, configuration, reports. Nothing personal.

A file's name is its SHA-256. Files are written whole or not at all, are read-only afterwards, and
are never changed. A copy is made of whatever comes in: a link would share the user's own file,
which may change tomorrow.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from freehold.errors import IntegrityError, NotFound
from freehold.lab.atomic import atomic_writer, storage_errors

_CHUNK = 4 * 1024 * 1024


class ObjectStore:
    """Files under ``objects/sha256/ab/…``, addressed by ``sha256:<hex>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the object is or would be."""
        algorithm, _, name = digest.partition(":")
        if algorithm != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise IntegrityError(f"not an object's name: {digest!r}")
        return self.root / "sha256" / name[:2] / name

    def put(self, data: bytes) -> str:
        """Store bytes durably and return their digest. Storing the same bytes twice is one file."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        if not target.exists():
            with atomic_writer(target, mode=0o444) as file:
                file.write(data)
        return digest

    def put_file(self, source: Path, *, expected: str | None = None) -> str:
        """Copy a file in, hashing what is written; `expected` refuses a file that has changed."""
        if expected is not None and self.path(expected).exists():
            return expected
        incoming = self.root / "incoming"
        with storage_errors(incoming):
            incoming.mkdir(parents=True, exist_ok=True)
        partial = incoming / os.urandom(12).hex()
        hasher = hashlib.sha256()
        try:
            with source.open("rb") as reader, atomic_writer(partial, mode=0o444) as writer:
                while chunk := reader.read(_CHUNK):
                    hasher.update(chunk)
                    writer.write(chunk)
            digest = "sha256:" + hasher.hexdigest()
            if expected is not None and digest != expected:
                raise IntegrityError(f"{source} changed while it was taken in", file=str(source))
            target = self.path(digest)
            with storage_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return digest

    def get(self, digest: str) -> bytes:
        """Return an object's bytes, checked against its name."""
        data = self.existing(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest.partition(":")[2]:
            raise IntegrityError(f"object {digest} has changed on the disk", object=digest)
        return data

    def existing(self, digest: str) -> Path:
        """Return the path of an object that must be there."""
        path = self.path(digest)
        if not path.is_file():
            raise NotFound(f"object {digest} is missing from {self.root}")
        return path

    def check(self, digest: str) -> str | None:
        """Return what is wrong with an object, or None. Reads the whole file."""
        path = self.path(digest)
        if not path.is_file():
            return "missing"
        hasher = hashlib.sha256()
        with path.open("rb") as reader:
            while chunk := reader.read(_CHUNK):
                hasher.update(chunk)
        return None if hasher.hexdigest() == path.name else "its bytes differ from its name"
