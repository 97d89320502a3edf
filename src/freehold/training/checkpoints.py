"""Checkpoints that are whole or do not count.

Writing: files go into ``tmp-…``, each is synced, ``manifest.json`` names every file with size and
SHA-256, the folder is renamed into place, and last a file ``COMPLETE`` is written that holds the
digest of the manifest. A crash at any instant leaves either a complete checkpoint or one that is
visibly not.

Reading, in this order:

1. folders without ``COMPLETE`` are left aside and reported;
2. of the complete ones the newest is taken;
3. its manifest must be the one that ``COMPLETE`` names, and every file must be there, unaltered;
4. it must belong to this lock and this token stream; otherwise the error says what differs.

The usual trainers take the highest number, whether it was finished or not, and go on from a missing
optimiser state as if it had been zero.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.canonical.json import decode, digest_bytes, encode
from freehold.errors import Conflict, IntegrityError
from freehold.models.manifest import build_manifest

CHECKPOINTS = "checkpoints"
COMPLETE = "COMPLETE"
MANIFEST = "manifest.json"
STATE = "state"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose checkpoint it is: the run, its lock and the commitment to its token stream."""

    run_id: str
    lock: dict[str, Any]
    tokens: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete and verified checkpoint; `state` is the folder with the trainer's files."""

    step: int
    state: Path


@dataclass(frozen=True, slots=True)
class Found:
    """The newest complete checkpoint, or None, and what was left aside with the reason."""

    newest: Checkpoint | None
    ignored: tuple[str, ...]


def save(run_dir: Path, step: int, owner: Owner, write: Callable[[Path], None]) -> Checkpoint:
    """Write a checkpoint: `write` fills a folder. A finished one for this step is kept as it is."""
    folder = run_dir / CHECKPOINTS
    final = folder / f"step-{step:08d}"
    if (final / COMPLETE).is_file():
        return Checkpoint(step, final / STATE)
    scratch = folder / f"tmp-step-{step:08d}"
    for left_over in (scratch, final):
        if left_over.exists():
            shutil.rmtree(left_over)
    state = scratch / STATE
    state.mkdir(parents=True)
    write(state)
    data = encode(_manifest(state, step, owner))
    _write_synced(scratch / MANIFEST, data)
    for path in sorted(scratch.rglob("*")):
        _sync(path)
    _sync(scratch)
    scratch.rename(final)
    _sync(folder)
    _write_synced(final / COMPLETE, digest_bytes(data).encode())
    _sync(final)
    return Checkpoint(step, final / STATE)


def newest(run_dir: Path, owner: Owner) -> Found:
    """Return the newest complete checkpoint of this run.

    Raises IntegrityError for a complete one that was altered or lost a file, Conflict for one of
    another recipe, dataset or machine.
    """
    folder = run_dir / CHECKPOINTS
    complete: list[Path] = []
    ignored: list[str] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("step-") and (path / COMPLETE).is_file():
            complete.append(path)
        else:
            ignored.append(f"{path.name}: not complete")
    if not complete:
        return Found(None, tuple(ignored))
    path = complete[-1]
    manifest = _verified(path)
    _check_owner(path, manifest, owner)
    return Found(Checkpoint(manifest["step"], path / STATE), tuple(ignored))


def prune(run_dir: Path, keep: int = 2) -> list[int]:
    """Delete all but the newest `keep` complete checkpoints; return the steps that went."""
    folder = run_dir / CHECKPOINTS
    complete = sorted(path for path in folder.glob("step-*") if (path / COMPLETE).is_file())
    gone: list[int] = []
    for path in complete[: max(0, len(complete) - keep)]:
        (path / COMPLETE).unlink()  # first: a crash while deleting must leave it incomplete
        shutil.rmtree(path)
        gone.append(int(path.name.removeprefix("step-")))
    return gone


def differences(recorded: Any, present: Any, path: str = "") -> list[str]:
    """Return what differs between two records, as ``train.lr: recorded 0.1, now 0.2``."""
    if isinstance(recorded, dict) and isinstance(present, dict):
        found: list[str] = []
        for key in sorted(recorded.keys() | present.keys()):
            inner = f"{path}.{key}" if path else key
            found += differences(recorded.get(key), present.get(key), inner)
        return found
    return [] if recorded == present else [f"{path}: recorded {recorded!r}, now {present!r}"]


def _manifest(state: Path, step: int, owner: Owner) -> dict[str, Any]:
    files = build_manifest(state).as_record()["files"]
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": owner.run_id,
        "step": step,
        "tokens": owner.tokens,
        "lock": owner.lock,
        "files": files,
    }


def _verified(path: Path) -> dict[str, Any]:
    try:
        data = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise IntegrityError(f"checkpoint {path} has lost its {MANIFEST}", hint=_HINT) from None
    if digest_bytes(data).encode() != (path / COMPLETE).read_bytes():
        raise IntegrityError(f"checkpoint {path}: {MANIFEST} was altered", hint=_HINT)
    manifest: dict[str, Any] = decode(data)
    if manifest["schema_version"] != SCHEMA_VERSION:
        raise IntegrityError(
            f"checkpoint {path} is of version {manifest['schema_version']}, "
            f"this program reads {SCHEMA_VERSION}",
            hint="Resume with the version of Freehold that began the run.",
        )
    recorded = {entry["path"]: entry for entry in manifest["files"]}
    missing = [name for name in recorded if not (path / STATE / name).is_file()]
    if missing:
        raise IntegrityError(f"checkpoint {path} has lost {', '.join(missing)}", hint=_HINT)
    present = {e["path"]: e for e in build_manifest(path / STATE).as_record()["files"]}
    odd = sorted(name for name in present if present[name] != recorded.get(name))
    if odd:
        raise IntegrityError(f"checkpoint {path}: {', '.join(odd)} was altered", hint=_HINT)
    return manifest


_HINT = "Remove this checkpoint folder to resume from the one before it, or begin a new run."


def _check_owner(path: Path, manifest: dict[str, Any], owner: Owner) -> None:
    changed = differences(manifest["lock"], owner.lock)
    if manifest["tokens"] != owner.tokens:
        changed.append("data: the rows give another token stream")
    if not changed and manifest["run_id"] != owner.run_id:
        changed.append(f"run_id: recorded {manifest['run_id']}, now {owner.run_id}")
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" * (len(changed) > 5))
        raise Conflict(
            f"checkpoint {path} belongs to another run: {shown}",
            hint="A changed recipe, dataset or machine is a new run: plan it in a new folder.",
            changed=changed,
        )


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
