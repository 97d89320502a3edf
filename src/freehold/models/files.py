"""A model's files in the lab: kept as objects, laid out as a folder for engines, and checked.

Every file is copied in: a link would share the user's own file, which may change tomorrow. The
folder that engines read is made of hard links to the read-only objects (or copies, where the file
system has none), verified against the manifest before anybody gets its path.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from sqlalchemy import Connection, select

from freehold.errors import IntegrityError, NotFound
from freehold.evidence.entries import Entry
from freehold.evidence.keys import MODEL_PUBLIC
from freehold.lab.atomic import storage_errors, write_atomically
from freehold.lab.objects import ObjectStore
from freehold.lab.opened import Lab
from freehold.lab.schema import objects
from freehold.models.manifest import Manifest, hash_files, verify_manifest
from freehold.models.oms import SignedModel, TrustedKey, compare_files, verify_signature
from freehold.models.records import ModelRecord, get_model

OnProgress = Callable[[int, int], None]

_ROWS_PER_ENTRY: Final = 200
_COPIERS: Final = 4
_NO_HARD_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES}


class Meter:
    """Adds up bytes from several threads and reports them as (done, total)."""

    def __init__(self, total: int, report: OnProgress | None) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Report that so many more bytes are done."""
        if self._report is None:
            return
        with self._lock:
            self._done += count
            self._report(self._done, self._total)


def keep_files(lab: Lab, manifest: Manifest, sources: Mapping[str, Path], meter: Meter) -> None:
    """Copy a model's files into the object store, several at once, the largest first.

    What is there already is not copied again, so that an intake that was cut off goes on where it
    stopped. Raises IntegrityError for a file that changed since it was hashed.
    """

    def keep(path: str, size: int, sha256: str) -> None:
        lab.objects.put_file(sources[path], expected=f"sha256:{sha256}")
        meter.add(size)

    largest_first = sorted(manifest.files, key=lambda one: -one.size)
    with ThreadPoolExecutor(max_workers=_COPIERS) as pool:
        running = [pool.submit(keep, one.path, one.size, one.sha256) for one in largest_first]
        for one in running:
            one.result()


def record_objects(lab: Lab, connection: Connection, kept: Mapping[str, str], actor: str) -> None:
    """Write rows for objects that have none yet. `kept` maps an object's name to its purpose."""
    known = set(
        connection.execute(select(objects.c.digest).where(objects.c.digest.in_(kept))).scalars()
    )
    new = [name for name in sorted(kept) if name not in known]
    for start in range(0, len(new), _ROWS_PER_ENTRY):
        entry = Entry(lab, connection, "objects.kept", actor)
        entry.insert_many(
            objects,
            [
                {
                    "digest": name,
                    "size": lab.objects.existing(name).stat().st_size,
                    "media_type": "application/octet-stream",
                    "purpose": kept[name],
                    "created_at": entry.at,
                }
                for name in new[start : start + _ROWS_PER_ENTRY]
            ],
        )
        entry.close()


def materialise(lab: Lab, name_or_digest: str) -> Path:
    """Return a folder with exactly the model's files, read-only, verified against its manifest.

    The first call hashes every file; later ones compare names, sizes, times and inodes, and hash
    again when any of them differs. Raises IntegrityError when the objects themselves have changed,
    NotFound when one is missing.
    """
    record = get_model(lab, name_or_digest)
    target = lab.layout.scratch / "models" / record.digest.removeprefix("sha256:")
    if _is_stamped(target):
        return target
    with _only_process(target):  # else one process replaces the folder from which another reads
        if not _is_stamped(target):
            if not target.is_dir() or not _holds(target, record.manifest):
                _lay_out_anew(lab.objects, record.manifest, target)
            write_atomically(_stamp(target), _stamps(target).encode())
    return target


def lay_out(store: ObjectStore, manifest: Manifest, folder: Path) -> None:
    """Fill an empty folder with a model's files from a store, and verify them."""
    for entry in manifest.files:
        source, link = store.existing(f"sha256:{entry.sha256}"), folder / entry.path
        with storage_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source, link)
    folder.mkdir(parents=True, exist_ok=True)
    verify_manifest(folder, manifest)


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A model whose objects, manifest and signature were checked. `size` in bytes."""

    record: ModelRecord
    files: int
    size: int
    signer: str


def verify_model(
    lab: Lab, name_or_digest: str, *, on_progress: OnProgress | None = None
) -> VerifiedModel:
    """Hash every file of a model again, and check manifest, name and signature.

    Raises IntegrityError naming what differs, NotFound for a missing object.
    """
    record = get_model(lab, name_or_digest)
    manifest = record.manifest
    if manifest.digest != record.digest:
        raise IntegrityError(f"model {record.name}: its manifest is not the one it is named by")
    sources = {one.path: lab.objects.existing(f"sha256:{one.sha256}") for one in manifest.files}
    meter = Meter(manifest.size, on_progress)
    hashed = hash_files(sources, progress=meter.add)
    changed = [one.path for one in manifest.files if hashed[one.path] != one]
    if changed:
        raise IntegrityError(
            f"model {record.name}: changed on the disk: {', '.join(changed[:10])}",
            hint="Restore the objects from a backup or a bundle; do not use this model.",
            files=changed,
        )
    signed = verify_signed(lab, record)
    return VerifiedModel(record, len(manifest.files), manifest.size, signed.signer)


def verify_signed(lab: Lab, record: ModelRecord) -> SignedModel:
    """Check a model's signature under the lab's public key for models, and its manifest with it.

    Raises IntegrityError where they do not fit, NotFound without a signature.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if record.signature_object is None:
        raise NotFound(f"model {record.name} has no signature in this lab")
    key = load_pem_public_key((lab.layout.keys / MODEL_PUBLIC).read_bytes())
    if not isinstance(key, EllipticCurvePublicKey):
        raise IntegrityError(f"{MODEL_PUBLIC} is not an elliptic-curve key")
    signed = verify_signature(lab.objects.get(record.signature_object), TrustedKey(key))
    compare_files(signed, record.manifest)
    return signed


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Tell whether a folder that lost its stamp is whole; a broken one is laid out anew."""
    try:
        verify_manifest(folder, manifest)
    except IntegrityError:
        return False
    return True


def _stamp(target: Path) -> Path:
    return target.with_suffix(".json")


def _is_stamped(target: Path) -> bool:
    stamp = _stamp(target)
    return stamp.is_file() and target.is_dir() and stamp.read_text("utf-8") == _stamps(target)


@contextmanager
def _only_process(target: Path) -> Iterator[None]:
    path = target.with_suffix(".lock")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lay_out_anew(store: ObjectStore, manifest: Manifest, target: Path) -> None:
    fresh = target.with_name(f".{target.name[:16]}-{secrets.token_hex(6)}")
    try:
        lay_out(store, manifest, fresh)
        if target.is_dir():
            aside = fresh.with_name(f"{fresh.name}-old")
            target.rename(aside)
            shutil.rmtree(aside)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _link_or_copy(source: Path, link: Path) -> None:
    try:
        os.link(source, link)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        shutil.copyfile(source, link)
        link.chmod(0o444)


def _stamps(folder: Path) -> str:
    """Return what the file system says of each file; a change of content changes it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.lstat()
            times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
            found[path.relative_to(folder).as_posix()] = times
    return json.dumps(found)
