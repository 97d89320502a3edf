"""Showing the lab's newest head to a witness, and keeping what the witness signed.

A log that only its operator signs can be written anew by its operator. A witness in another place
remembers the newest head it saw and cosigns only heads that continue it; its memory is the
high-water mark that no restored backup can turn back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from freehold.canonical.merkle import consistency_proof
from freehold.errors import NotFound
from freehold.evidence.keys import log_verifier
from freehold.evidence.notes import merge_signatures, open_note
from freehold.evidence.sequencer import latest_checkpoint, publish
from freehold.evidence.tiles import TileReader
from freehold.evidence.witness import Witness
from freehold.lab.atomic import write_atomically
from freehold.lab.opened import Lab

WITNESSES = "witness"  # under keys/: each witness's key, and the newest head it cosigned


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What a witness has signed: the size of the head, the witness's key, the cosigned note."""

    size: int
    previous: int
    witness: str
    path: Path


def witness_head(lab: Lab, directory: Path, *, new_name: str | None = None) -> Witnessed:
    """Let the witness in `directory` cosign the lab's newest head, and keep its cosignature.

    `new_name` makes the witness first and lets it trust this lab's key. Raises ForkDetected or
    IntegrityError when the head does not continue what the witness has seen: both are kept there.
    """
    publish(lab)
    head = latest_checkpoint(lab)
    if head is None:
        raise NotFound("this ledger has no signed head yet")
    if new_name is not None:
        Witness.create(directory, new_name)
    witness = Witness(directory)
    log = log_verifier(lab)
    witness.trust(log)
    checkpoint, note = head
    newest = witness.newest(lab.origin)
    old_size = newest.size if newest else 0
    proof: list[bytes] = []
    if 0 < old_size <= checkpoint.size:
        hash_at = TileReader(lab.layout.ledger).hash_at
        proof = consistency_proof(old_size, checkpoint.size, hash_at)
    line = witness.add_checkpoint(note, proof, old_size=old_size)
    cosigner = witness.verifier
    cosigned = note + line
    open_note(cosigned, [log, cosigner])
    safe_name = "".join(c if c.isalnum() or c in "-." else "-" for c in cosigner.name)
    write_atomically(
        lab.layout.keys / WITNESSES / f"{safe_name}.vkey", (cosigner.vkey() + "\n").encode()
    )
    path = lab.layout.keys / WITNESSES / f"{safe_name}.checkpoint"
    write_atomically(path, cosigned.encode())
    return Witnessed(checkpoint.size, old_size, cosigner.vkey(), path)


def with_cosignatures(lab: Lab, note: str) -> str:
    """Return a signed head with every cosignature that is kept over the very same head."""
    text = note.partition("\n\n")[0]
    kept = sorted((lab.layout.keys / WITNESSES).glob("*.checkpoint"))
    others = [path.read_text(encoding="utf-8") for path in kept]
    same = [other for other in others if other.partition("\n\n")[0] == text]
    return merge_signatures(note, *same)
