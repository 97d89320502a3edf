"""A bundle made by hand, with one of everything that the verifier checks."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.canonical.json import commit, digest, encode
from freehold.canonical.merkle import inclusion_proof, leaf_hash, root_of
from freehold.evidence.notes import COSIGNS, Checkpoint, Signer, sign_note
from freehold.evidence.proofs import Opened, Receipt, TlogProof, pointer
from freehold.evidence.tiles import TileReader, TileWriter

LOG = Signer.generate("test.example/log")
WITNESS = Signer.generate("w.example", COSIGNS)
SALT = bytes(range(32))
DECISION = {"decision_id": "dec_1", "value": "überweisung 😀"}


@dataclass(frozen=True)
class Shape:
    """What goes into a bundle: how many ledger entries and dataset rows."""

    entries: int = 12
    rows: int = 4


def write(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


def row_lines(count: int) -> tuple[list[str], bytes]:
    """Return commitments and the JSONL of ``count`` rows, the last one erased."""
    commitments, lines = [], []
    for number in range(count):
        row = {"text": f"row {number}", "label": "a"}
        stated = commit(SALT, row)
        record: dict[str, Any] = {"commitment": stated, "row": row, "salt": SALT.hex()}
        if number == count - 1:
            record = {"commitment": stated, "erased": True}
        commitments.append(stated)
        lines.append(encode(record) + b"\n")
    return commitments, b"".join(lines)


def make_bundle(root: Path, shape: Shape = Shape()) -> Path:
    """Make a valid bundle in ``root``."""
    commitments, lines = row_lines(shape.rows)
    dataset_root = "sha256:" + root_of(leaf_hash(one.encode()) for one in commitments).hex()
    entries = [
        encode({"entry_id": f"ent_{number}", "kind": "x"}) for number in range(shape.entries)
    ]
    entries[3] = encode(
        {"entry_id": "ent_3", "rows": {"decisions": {"dec_1": commit(SALT, DECISION)}}}
    )
    entries[5] = encode(
        {"entry_id": "ent_5", "roots": {"dataset_rows": {"d": {"root": dataset_root}}}}
    )
    size = len(entries)
    head = Checkpoint(LOG.verifier.name, size, root_of(leaf_hash(one) for one in entries)).text()
    note = sign_note(head, LOG) + WITNESS.sign(head, at=1_800_000_000)
    TileWriter(root / "ledger").publish(0, entries, note)
    shutil.rmtree(root / "ledger/.scratch")
    write(root, "keys/log.vkey", f"{LOG.verifier.vkey()}\n".encode())
    write(root, "keys/witness/w.vkey", f"{WITNESS.verifier.vkey()}\n".encode())
    path = inclusion_proof(3, size, TileReader(root / "ledger").hash_at)
    opened = Opened(pointer("rows", "decisions", "dec_1"), encode(DECISION), SALT)
    receipt = Receipt(entries[3], TlogProof(3, tuple(path), sign_note(head, LOG)), (opened,))
    write(root, "receipts/dec_1.json", receipt.to_bytes())
    write(root, "datasets/d/rows.jsonl", lines)
    manifest = {"name": "d", "root": dataset_root, "entry_id": "ent_5"}
    write(root, "datasets/d/manifest.json", encode(manifest))
    make_model(root, "m", {"config.json": b"{}", "sub/weights": b"w" * 50})
    seal(root)
    return root


def make_model(root: Path, name: str, files: dict[str, bytes]) -> None:
    """Add a model with these files."""
    for path, data in files.items():
        write(root, f"models/{name}/files/{path}", data)
    record: dict[str, Any] = {
        "format": "freehold-model/1",
        "kind": "base",
        "form": "transformers",
        "files": [
            {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(files.items())
        ],
    }
    write(root, f"models/{name}/manifest.json", encode(record | {"digest": digest(record)}))


def seal(root: Path, signer: Signer = LOG) -> None:
    """Write the manifest over what is there, and sign it."""
    listed = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(contents(root).items())
        if path not in {"MANIFEST.json", "manifest.note"}
    ]
    write(root, "MANIFEST.json", encode(listed))
    sign_manifest(root, signer)


def sign_manifest(root: Path, signer: Signer = LOG) -> None:
    """Sign the manifest as it stands."""
    sha256 = hashlib.sha256((root / "MANIFEST.json").read_bytes()).hexdigest()
    write(root, "manifest.note", sign_note(f"freehold-bundle/1\n{sha256}\n", signer).encode())


def contents(root: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
