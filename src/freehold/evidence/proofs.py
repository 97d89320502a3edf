"""Proofs that can be checked without the lab: a file, a key from elsewhere, nothing else.

A *tlog-proof* (c2sp.org/tlog-proof) says that an entry stands at an index of a signed ledger. A
*receipt* adds the entry itself and, where it may be shown, what stands behind the commitments in
it: one canonical JSON document that travels by mail.

    {"format": "freehold-receipt/1",
     "entry":  the canonical bytes of the entry, as text,
     "proof":  the tlog-proof, as text,
     "opened": [{"at": JSON pointer to the commitment in the entry,
                 "salt": hex, absent where the entry holds a plain digest,
                 "utf8" or "base64": what was committed to}]}
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from freehold.canonical.json import commit_bytes, decode, digest_bytes, encode
from freehold.canonical.merkle import leaf_hash, verify_inclusion
from freehold.errors import InputError, IntegrityError
from freehold.evidence.notes import (
    COSIGNS,
    SIGNS_NOTES,
    Checkpoint,
    Signature,
    Verifier,
    decode_base64,
    open_note,
)

RECEIPT_FORMAT: Final = "freehold-receipt/1"

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_LONGEST_PROOF: Final = 63
_SHORTEST_SALT: Final = 16
_LONGEST_RECEIPT: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An inclusion proof: index, sibling hashes from the leaf up, and the signed checkpoint.

    ``extra`` is carried along and proves nothing.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def text(self) -> str:
        """Return the proof as the text of a ``.tlog-proof`` file."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(one).decode() for one in self.hashes]
        return "\n".join(lines) + "\n\n" + self.checkpoint

    @classmethod
    def parse(cls, text: str) -> TlogProof:
        """Read what `text` wrote; nothing is checked yet. Raises IntegrityError if it is none."""
        head, blank, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or lines.pop(0) != _HEADER:
            raise IntegrityError(f"not a tlog-proof: the first line is {_HEADER}")
        try:
            extra = None
            if lines and lines[0].startswith("extra "):
                extra = decode_base64(lines.pop(0).removeprefix("extra "))
            index = _INDEX.fullmatch(lines.pop(0) if lines else "")
            hashes = tuple(decode_base64(line) for line in lines)
        except ValueError as error:
            raise IntegrityError(f"tlog-proof: {error}") from error
        if index is None:
            raise IntegrityError("tlog-proof: the index is missing")
        if len(hashes) > _LONGEST_PROOF or any(len(one) != 32 for one in hashes):
            raise IntegrityError(f"tlog-proof: at most {_LONGEST_PROOF} hashes of 32 bytes each")
        return cls(int(index[1]), hashes, checkpoint, extra)


@dataclass(frozen=True, slots=True)
class Opened:
    """What stands behind one commitment of an entry, shown to the reader of a receipt.

    ``at`` is a JSON pointer (RFC 6901) to the commitment; ``salt`` is None for a plain digest.
    """

    at: str
    data: bytes
    salt: bytes | None = None

    def commitment(self) -> str:
        """Return the commitment, or digest, that must stand in the entry."""
        if self.salt is None:
            return digest_bytes(self.data)
        return commit_bytes(self.salt, self.data)

    def as_record(self) -> dict[str, str]:
        """Return the JSON form: readable text where the data is text."""
        record = {"at": self.at}
        if self.salt is not None:
            record["salt"] = self.salt.hex()
        try:
            record["utf8"] = self.data.decode("utf-8")
        except UnicodeDecodeError:
            record["base64"] = base64.b64encode(self.data).decode()
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Opened:
        """Read what `as_record` wrote. Raises IntegrityError for any other shape."""
        try:
            salt = bytes.fromhex(record["salt"]) if "salt" in record else None
            text = record.get("utf8")
            data = decode_base64(record["base64"]) if text is None else text.encode()
            opened = cls(str(record["at"]), data, salt)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"receipt: an opened payload is malformed: {error!r}") from error
        if opened.as_record() != record or (salt is not None and len(salt) < _SHORTEST_SALT):
            raise IntegrityError(f"receipt: the opened payload at {opened.at!r} is malformed")
        return opened


@dataclass(frozen=True, slots=True)
class Receipt:
    """One entry of a ledger with its proof, and what may be shown of the content behind it."""

    entry: bytes
    proof: TlogProof
    opened: tuple[Opened, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the receipt as one canonical JSON document."""
        return encode(
            {
                "format": RECEIPT_FORMAT,
                "entry": self.entry.decode("utf-8"),
                "proof": self.proof.text(),
                "opened": [one.as_record() for one in self.opened],
            }
        )

    @classmethod
    def parse(cls, document: bytes) -> Receipt:
        """Read what `to_bytes` wrote; nothing is checked yet.

        Raises IntegrityError where it is damaged, InputError where it is something else.
        """
        if len(document) > _LONGEST_RECEIPT:
            raise InputError(f"a receipt of {len(document)} bytes; {_LONGEST_RECEIPT} at most")
        record = decode(document)
        if not isinstance(record, dict) or record.get("format") != RECEIPT_FORMAT:
            raise InputError(f"not a receipt of format {RECEIPT_FORMAT}")
        entry, proof, opened = (record.get(name) for name in ("entry", "proof", "opened"))
        if not (isinstance(entry, str) and isinstance(proof, str) and isinstance(opened, list)):
            raise IntegrityError("receipt: entry, proof or opened is missing")
        if len(record) != 4:
            raise IntegrityError(f"receipt: it has {len(record)} parts, expected 4")
        shown = tuple(Opened.from_record(one) for one in opened)
        return cls(entry.encode(), TlogProof.parse(proof), shown)


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves: this entry, at this index, under this signed head."""

    entry: Mapping[str, Any]
    index: int
    checkpoint: Checkpoint
    cosignatures: tuple[Signature, ...]
    opened: tuple[Opened, ...]


def verify_receipt(
    receipt: Receipt | bytes, trusted: Sequence[Verifier], *, witnesses: int = 0
) -> VerifiedReceipt:
    """Check a receipt against keys that the reader has from elsewhere.

    1. The checkpoint is signed by a trusted key that carries the log's own name, and every
       signature or cosignature of another trusted key on it is right.
    2. At least ``witnesses`` trusted witnesses cosigned it.
    3. The entry stands at the stated index below the checkpoint's root.
    4. The entry is canonical JSON, so that it reads the same for everyone.
    5. Each opened payload is what the entry commits to.

    Raises IntegrityError naming the step that fails.
    """
    if isinstance(receipt, bytes):
        receipt = Receipt.parse(receipt)
    checkpoint, cosignatures = open_checkpoint(receipt.proof.checkpoint, trusted)
    if len(cosignatures) < witnesses:
        raise IntegrityError(
            f"the checkpoint has {len(cosignatures)} trusted cosignatures, {witnesses} are asked",
            hint="Send the checkpoint to the witness first: `freehold ledger witness`.",
        )
    leaf = leaf_hash(receipt.entry)
    proof = receipt.proof
    verify_inclusion(leaf, proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    entry = decode(receipt.entry)
    if not isinstance(entry, dict):
        raise IntegrityError("receipt: the entry is not a JSON object")
    for one in receipt.opened:
        stated = find(entry, one.at)
        if stated != one.commitment():
            raise IntegrityError(
                f"receipt: what is opened at {one.at} is not what the entry commits to"
            )
    return VerifiedReceipt(entry, proof.index, checkpoint, cosignatures, receipt.opened)


def open_checkpoint(
    note: str, trusted: Sequence[Verifier]
) -> tuple[Checkpoint, tuple[Signature, ...]]:
    """Check a signed head; return it with the cosignatures of trusted witnesses.

    Raises IntegrityError where no trusted key with the log's own name signed it.
    """
    opened = open_note(note, trusted)
    checkpoint = Checkpoint.parse(opened.text)
    own = [v for v in trusted if v.kind == SIGNS_NOTES and v.name == checkpoint.origin]
    if not any(opened.signed_by(verifier) for verifier in own):
        raise IntegrityError(
            f"the checkpoint is not signed by a trusted key of {checkpoint.origin}",
            hint="Compare the log's verifier key with the one you were given.",
        )
    cosigners = {v.key_id for v in trusted if v.kind == COSIGNS}
    return checkpoint, tuple(one for one in opened.signatures if one.key_id in cosigners)


def pointer(*steps: str) -> str:
    """Return the JSON pointer to a place in an entry: ``pointer("rows", "decisions", "dec_1")``."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def find(value: Any, at: str) -> Any:
    """Return what a JSON pointer points to. Raises IntegrityError where there is nothing."""
    reached = value
    if not at.startswith("/"):
        raise IntegrityError(f"receipt: {at!r} is no JSON pointer into an entry")
    for escaped in at[1:].split("/"):
        step = escaped.replace("~1", "/").replace("~0", "~")
        if isinstance(reached, dict) and step in reached:
            reached = reached[step]
        elif isinstance(reached, list) and step in map(str, range(len(reached))):
            reached = reached[int(step)]
        else:
            raise IntegrityError(f"receipt: the entry has nothing at {at}")
    return reached
