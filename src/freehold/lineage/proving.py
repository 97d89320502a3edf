"""A receipt for anything in the lab: its ledger entry, the proof, and on request what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select

from freehold.canonical.json import decode, encode
from freehold.canonical.merkle import inclusion_proof
from freehold.errors import IntegrityError, NotFound
from freehold.evidence.entries import Salts, row_key
from freehold.evidence.keys import log_verifier
from freehold.evidence.proofs import Opened, Receipt, TlogProof, find, pointer, verify_receipt
from freehold.evidence.sequencer import latest_checkpoint, publish
from freehold.evidence.tiles import TileReader
from freehold.evidence.witnessing import with_cosignatures
from freehold.lab.opened import Lab
from freehold.lab.schema import COMMITTED, ledger_entries


@dataclass(frozen=True, slots=True)
class Proved:
    """A receipt, checked before it is given out, and what it is about.

    `index` is the entry's place in a log of `size` entries. `shown` says whether the record itself
    stands in the receipt; without, the receipt proves that it was written and not what it says.
    """

    table: str
    key: str
    entry_id: str
    index: int
    size: int
    shown: bool
    document: bytes


def prove(lab: Lab, record_id: str, *, show: bool = False) -> Proved:
    """Return the receipt of a decision, release, dataset, model or any other committed record.

    What an item is about is shown only with `show`: the receipt then holds the record and the salt
    of its item, with which every other commitment about that item can be tested too. Records that
    concern no item hold nothing personal and are always shown. Entries that wait for their place
    are published first. Raises NotFound for an unknown id, IntegrityError where the proof does not
    hold: run `freehold ledger verify`.
    """
    publish(lab)
    with lab.reading() as connection:
        table, row = find_record(connection, record_id)
        where = select(ledger_entries.c.idx, ledger_entries.c.bytes)
        found = connection.execute(
            where.where(ledger_entries.c.entry_id == row["entry_id"])
        ).first()
        salt = Salts(connection).get(str(row["item_id"])) if "item_id" in row else None
    head = latest_checkpoint(lab)
    if found is None or head is None or found.idx >= head[0].size:
        raise IntegrityError(f"entry {row['entry_id']} of {record_id} is not in the ledger")
    reader = TileReader(lab.layout.ledger)
    path = tuple(inclusion_proof(found.idx, head[0].size, reader.hash_at))
    proof = TlogProof(found.idx, path, with_cosignatures(lab, head[1]))
    receipt = Receipt(bytes(found.bytes), proof)
    key = row_key(COMMITTED[table.name].key, row)
    opened = _opened(receipt, table.name, key, row, salt, show=show)
    receipt = Receipt(receipt.entry, proof, opened)
    verify_receipt(receipt, [log_verifier(lab)])
    entry_id = str(row["entry_id"])
    size = head[0].size
    return Proved(table.name, key, entry_id, found.idx, size, bool(opened), receipt.to_bytes())


def find_record(connection: Connection, record_id: str) -> tuple[Table, dict[str, Any]]:
    """Return the table and row of a committed record by its id; NotFound when there is none."""
    for spec in COMMITTED.values():
        first = spec.table.c[spec.key[0]]
        row = connection.execute(select(spec.table).where(first == record_id)).mappings().first()
        if row is not None:
            return spec.table, {str(name): value for name, value in row.items()}
    raise NotFound(
        f"nothing in this lab has the id {record_id!r}",
        hint="Ids of decisions begin with dec_, of reviews with rev_; digests with sha256:.",
    )


def _opened(
    receipt: Receipt, table: str, key: str, row: dict[str, Any], salt: bytes | None, *, show: bool
) -> tuple[Opened, ...]:
    """Return the record as it stands behind its commitment, where it may and can be shown."""
    at = pointer("rows", table, key)
    about_item = "item_id" in row
    if about_item and (not show or salt is None):
        return ()
    one = Opened(at, encode(row), salt if about_item else None)
    stated = find(decode(receipt.entry), at)
    if stated != one.commitment():
        raise IntegrityError(f"{table}/{key} is not what its entry committed to")
    return (one,)
