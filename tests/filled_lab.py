"""A lab with rows in every table, each written through a ledger entry, made without any model.

The values mean little: they are distinct, so that no row can stand for another. What other parts
of the lab read (parts of items, manifests, numbers, signatures) is real.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Table, insert

from freehold.access.people import find_person
from freehold.canonical.json import digest, encode_text
from freehold.evidence.entries import Entry, Salts, small_row_commitment
from freehold.evidence.people import add_person, make_person_key
from freehold.evidence.sequencer import publish
from freehold.evidence.statements import read_person_key, sign_statement
from freehold.lab import Lab
from freehold.lab.payloads import INLINE_BYTES
from freehold.lab.schema import (
    COMMITTED,
    ROOTED,
    approvals,
    decisions,
    item_subjects,
    items,
    models,
    objects,
    releases,
    salts,
    sequences,
    verdicts,
)

ROWS = 40  # more than any table has columns
LARGE = (1, 6)  # the items with a payload in a file of its own
BY_HAND = {"items", "objects", "models", "principals", "decisions", "verdicts", "approvals"}
BY_HAND |= {"releases", "erasures"}


@dataclass(frozen=True)
class Filled:
    """Who filled the lab, and the item of each number."""

    actor: str
    item_ids: tuple[str, ...]


def fill(lab: Lab, keys: Path, marker: str = "") -> Filled:
    """Fill every committed and rooted table with `ROWS` rows. The first two carry `marker`."""
    with lab.writing() as connection:
        actor = add_person(lab, connection, "Ada Example", roles=("approver",)).principal_id
    make_person_key(lab, "Ada Example", keys)
    filled = Filled(actor, _fill_items(lab, actor, marker))
    _fill_objects(lab, actor)
    _fill_decisions(lab, filled, marker)
    _fill_approvals(lab, filled, keys)
    for name, spec in COMMITTED.items():
        if name not in BY_HAND:
            rows = [_row(spec.table, filled, place, marker) for place in range(ROWS)]
            with lab.writing() as connection:
                entry = Entry(lab, connection, "sample.filled", actor, {"table": name})
                entry.insert_many(spec.table, rows)
                entry.close()
    for spec in ROOTED.values():
        _fill_rooted(lab, spec.table, filled, marker)
    publish(lab)
    return filled


def _owner_of(table: Table) -> str:
    """Return the owner of the rows that a rooted table was filled with."""
    return f"{table.name} owner"


def value_of(table: Table, name: str, place: int) -> Any:
    """Return a value of a column that no other row or column has."""
    if isinstance(table.c[name].type, BigInteger):
        return place + 1
    return f"{table.name} {name} {place}"


def _row(table: Table, filled: Filled, place: int, marker: str) -> dict[str, Any]:
    spec = COMMITTED.get(table.name) or ROOTED[table.name]
    row = {column.name: value_of(table, column.name, place) for column in table.columns}
    if place < 2 and marker:
        row |= {name: f"{marker} {row[name]}" for name in spec.personal}
    if "item_id" in row:
        row["item_id"] = filled.item_ids[place]
    if "signature" in row:
        row["signature"] = None
    if "item_ids" in row:
        row["item_ids"] = encode_text([filled.item_ids[place]])
    return row


def _fill_items(lab: Lab, actor: str, marker: str) -> tuple[str, ...]:
    names = tuple(f"itm_{place:03d}" for place in range(ROWS))
    with lab.writing() as connection:
        entry = Entry(lab, connection, "items.taken_in", actor, salts=Salts(connection))
        for place, name in enumerate(names):
            salt = hashlib.sha256(f"salt {place}".encode()).digest()
            connection.execute(insert(salts).values(item_id=name, salt=salt))
            said = marker if place < 2 else ""
            # A few payloads are too large to stand in the database.
            text = f"text {place} {said}" + "." * (INLINE_BYTES * (place in LARGE))
            body = lab.payloads.put(connection, name, "text/plain", text.encode(), salt)
            parts = [{"name": "text", "media_type": "text/plain"}]
            parts[0] |= {"payload_id": body[0], "commitment": body[1]}
            row = {column.name: value_of(items, column.name, place) for column in items.columns}
            row |= {"item_id": name, "parts": encode_text(parts), "erased_at": None}
            row |= {"external_id": f"{said} {place}", "attributes": encode_text({"a": said})}
            entry.insert(items, row)
            subject = lab.index_key(f"{said} subject {place // 2}", "subject")
            connection.execute(insert(item_subjects).values(item_id=name, subject_key=subject))
        entry.close()
    return names


def _fill_objects(lab: Lab, actor: str) -> None:
    with lab.writing() as connection:
        entry = Entry(lab, connection, "objects.kept", actor)
        for place in range(ROWS):
            data = f"object {place}".encode()
            row = {"digest": lab.objects.put(data), "size": len(data), "media_type": "text/plain"}
            entry.insert(objects, row | {"purpose": f"sample {place}", "created_at": entry.at})
            weights = f"weights {place}".encode()
            manifest = {"files": [_file(lab, weights)], "kind": "base"}
            record = {c.name: value_of(models, c.name, place) for c in models.columns}
            record |= {"model_digest": digest(manifest), "manifest": encode_text(manifest)}
            entry.insert(models, record | {"signature_object": lab.objects.put(b"signature")})
        entry.close()


def _file(lab: Lab, data: bytes) -> dict[str, Any]:
    name = lab.objects.put(data)
    return {"path": "weights", "size": len(data), "sha256": name.removeprefix("sha256:")}


def _fill_decisions(lab: Lab, filled: Filled, marker: str) -> None:
    with lab.writing() as connection:
        entry = Entry(lab, connection, "decisions.admitted", filled.actor)
        rows = [_row(decisions, filled, place, marker) for place in range(ROWS)]
        entry.insert_many(decisions, rows)
        connection.execute(insert(sequences).values(name="decisions", value=ROWS))
        entry.close()


def _fill_approvals(lab: Lab, filled: Filled, keys: Path) -> None:
    with lab.writing() as connection:
        person = find_person(connection, "Ada Example")
        signer = read_person_key(keys, person)
        entry = Entry(lab, connection, "verdict.approved", filled.actor)
        for place in range(ROWS):
            verdict = _row(verdicts, filled, place, "")
            entry.insert(verdicts, verdict)
            statement = {"verdict_digest": verdict["verdict_digest"], "decision": "approve"}
            row = _row(approvals, filled, place, "") | statement
            row |= {"verdict_id": verdict["verdict_id"], "principal_id": person.principal_id}
            row |= {"statement": encode_text(statement), "public_key": person.public_key}
            approval = entry.insert(
                approvals, row | {"signature": sign_statement(statement, signer)}
            )
            release = _row(releases, filled, place, "")
            entry.insert(releases, release | {"approval_id": approval["approval_id"]})
        entry.close()


def _fill_rooted(lab: Lab, table: Table, filled: Filled, marker: str) -> None:
    spec = ROOTED[table.name]
    owner = _owner_of(table)
    rows: list[dict[str, Any]] = []
    with lab.writing() as connection:
        known = Salts(connection)
        for place in range(ROWS):
            row = _row(table, filled, place, marker) | {spec.owner_key: owner, "position": place}
            row["commitment"] = small_row_commitment(table, row, _salt(known, row))
            rows.append(row)
        connection.execute(insert(table), rows)
        entry = Entry(lab, connection, "sample.rooted", filled.actor)
        entry.bind_root(table, owner, [row["commitment"] for row in rows])
        entry.close()


def _salt(known: Salts, row: Mapping[str, Any]) -> bytes:
    salt = known.get(row["item_id"])
    assert salt is not None
    return salt
