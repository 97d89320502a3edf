"""Proofs and receipts: they hold, travel as text, and no altered byte passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from freehold.canonical.json import commit, commit_bytes, digest, encode
from freehold.canonical.merkle import hashes_of, inclusion_proof, leaf_hash, root_of
from freehold.errors import InputError, IntegrityError
from freehold.evidence.notes import COSIGNS, Checkpoint, Signer, sign_note
from freehold.evidence.proofs import (
    Opened,
    Receipt,
    TlogProof,
    find,
    pointer,
    verify_receipt,
)

LOG = Signer.generate("test.example/log")
WITNESS = Signer.generate("w.example", COSIGNS)
SALT = bytes(range(32))
ROW = {"decision_id": "dec/1", "value": "refund"}
IMAGE = b"\xff\xd8\xff"
ENTRY = encode(
    {
        "format": "freehold-entry/1",
        "entry_id": "ent_1",
        "rows": {
            "decisions": {"dec/1": commit(SALT, ROW)},
            "images": [commit_bytes(SALT, IMAGE)],
            "models": {"m": digest({"k": 1})},
        },
    }
)
OPENED = (
    Opened(pointer("rows", "decisions", "dec/1"), encode(ROW), SALT),
    Opened(pointer("rows", "images", "0"), IMAGE, SALT),
    Opened(pointer("rows", "models", "m"), encode({"k": 1})),
)


def receipt(entry: bytes = ENTRY, opened: tuple[Opened, ...] = OPENED) -> Receipt:
    entries = [b"first", b"second", entry, b"fourth", b"fifth"]
    leaves = [leaf_hash(one) for one in entries]
    text = Checkpoint(LOG.verifier.name, 5, root_of(leaves)).text()
    note = sign_note(text, LOG) + WITNESS.sign(text, at=1_800_000_000)
    return Receipt(
        entry, TlogProof(2, tuple(inclusion_proof(2, 5, hashes_of(leaves))), note), opened
    )


TRUSTED = [LOG.verifier, WITNESS.verifier]


def test_a_receipt_travels_and_holds() -> None:
    """Written and read again, a receipt proves its entry, its place and what it opens."""
    document = receipt().to_bytes()
    assert Receipt.parse(document) == receipt()
    verified = verify_receipt(document, TRUSTED, witnesses=1)
    assert verified.entry["entry_id"] == "ent_1"
    assert (verified.index, verified.checkpoint.size) == (2, 5)
    assert [one.signed_at for one in verified.cosignatures] == [1_800_000_000]
    assert verified.opened == OPENED


def test_every_flipped_byte_is_refused() -> None:
    """No byte of a receipt can change unnoticed, its cosignature included."""
    document = receipt().to_bytes()
    for position in range(len(document)):
        altered = bytearray(document)
        altered[position] ^= 1
        with pytest.raises((IntegrityError, InputError)):
            verify_receipt(bytes(altered), TRUSTED, witnesses=1)


STRANGER = Signer.generate("test.example/log")
OTHER_LOG = Signer.generate("other.example/log")


@pytest.mark.parametrize(
    ("changed", "trusted", "witnesses", "match"),
    [
        (receipt(), [STRANGER.verifier], 0, "not signed by a trusted key"),
        (receipt(), [], 0, "none is trusted"),
        (receipt(), [WITNESS.verifier], 0, "trusted key of test.example/log"),
        (receipt(), [OTHER_LOG.verifier, WITNESS.verifier], 0, "trusted key of test.example/log"),
        (receipt(), [LOG.verifier], 1, "0 trusted cosignatures, 1 are asked"),
        (replace(receipt(), entry=ENTRY + b" "), TRUSTED, 0, "leads to root"),
        (receipt(ENTRY + b" "), TRUSTED, 0, "not in canonical form"),
        (receipt(b"[]", ()), TRUSTED, 0, "not a JSON object"),
        (receipt(opened=(replace(OPENED[0], data=b"{}"),)), TRUSTED, 0, "not what the entry"),
        (receipt(opened=(replace(OPENED[0], salt=b"s" * 16),)), TRUSTED, 0, "not what the entry"),
        (receipt(opened=(replace(OPENED[0], at="/rows/none"),)), TRUSTED, 0, "nothing at"),
        (receipt(opened=(replace(OPENED[0], at="rows"),)), TRUSTED, 0, "no JSON pointer"),
        (receipt(opened=(replace(OPENED[0], at="/rows/images/-1"),)), TRUSTED, 0, "nothing at"),
    ],
)
def test_what_does_not_hold(
    changed: Receipt, trusted: list[Any], witnesses: int, match: str
) -> None:
    """Each step of the verification refuses what it is there for."""
    with pytest.raises(IntegrityError, match=match):
        verify_receipt(changed, trusted, witnesses=witnesses)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("format", "freehold-receipt/2", "not a receipt of format"),
        ("entry", 7, "missing"),
        ("proof", "c2sp.org/tlog-proof@v2\n", "not a tlog-proof"),
        ("opened", [{"at": "/rows"}], "malformed"),
        ("opened", [{"at": 7, "utf8": "x"}], "malformed"),
        ("opened", [{"at": "/rows", "utf8": "x", "salt": "00"}], "malformed"),
        ("opened", [{"at": "/rows", "utf8": "x", "more": "y"}], "malformed"),
        ("opened", ["x"], "malformed"),
        ("extra", 1, "5 parts"),
    ],
)
def test_malformed_receipts(field: str, value: Any, match: str) -> None:
    """Any other shape is refused by name."""
    record = json.loads(receipt().to_bytes()) | {field: value}
    with pytest.raises((IntegrityError, InputError), match=match):
        Receipt.parse(encode(record))


def test_the_published_proof_shape(shared_data: Path) -> None:
    """The text layout is that of the specification's example: header, extra, index, hashes."""
    page = (shared_data / "specs/c2sp/tlog-proof.md").read_text()
    lines = page.split("```\n")[1].split("\n\n")[0].split("\n")
    proof = TlogProof(73894, (b"\x00" * 32,) * 5, sign_note("x\n0\n", LOG), extra=b"context")
    ours = proof.text().split("\n\n")[0].split("\n")
    assert [line.split(" ")[0] for line in lines[:3]] == [line.split(" ")[0] for line in ours[:3]]
    assert (lines[0], lines[2], len(lines)) == (ours[0], ours[2], len(ours))
    assert TlogProof.parse(proof.text()) == proof


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not a tlog-proof"),
        ("c2sp.org/tlog-proof@v1\nindex 1", "not a tlog-proof"),
        ("c2sp.org/tlog-proof@v1\n\nnote", "index is missing"),
        ("c2sp.org/tlog-proof@v1\nindex 01\n\nnote", "index is missing"),
        ("c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nnote", "32 bytes each"),
        ("c2sp.org/tlog-proof@v1\nindex 1\n!!!!\n\nnote", "tlog-proof: "),
        ("c2sp.org/tlog-proof@v1\nindex 1\n" + ("A" * 43 + "=\n") * 64 + "\nnote", "at most 63"),
    ],
)
def test_malformed_proofs(text: str, match: str) -> None:
    """A proof has one spelling."""
    with pytest.raises(IntegrityError, match=match):
        TlogProof.parse(text)


def test_pointers() -> None:
    """Keys with slashes and tildes are reached."""
    value = {"a/b": {"~c": [5]}}
    assert find(value, pointer("a/b", "~c", "0")) == 5
