"""A dataset as files that other tools read: Parquet with its manifest, and canonical JSON Lines.

A rendering holds people's texts. Inside the lab it stands under ``payloads/``, where erasure finds
it and makes it anew; a copy that leaves the lab is written down in `exports` *before* the first
byte, so that nothing can leave unrecorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, RowMapping, Table, select

from freehold.canonical.json import PARTS_PER_BILLION, decode, encode, encode_text
from freehold.datasets.gathering import pieces
from freehold.datasets.reading import DatasetRecord, get_dataset, pages
from freehold.errors import Conflict, InputError
from freehold.evidence.entries import Entry, Salts
from freehold.evidence.sequencer import publish
from freehold.lab.atomic import atomic_writer, write_atomically
from freehold.lab.opened import Lab
from freehold.lab.schema import ROOTED, contracts, dataset_rows, exports, items
from freehold.records.ids import new_id
from freehold.workflows.items import item_texts

_FOLDER = "datasets"


@dataclass(frozen=True, slots=True)
class Rendering:
    """The files of one rendering, and how many rows are in and were left out as erased."""

    parquet: Path
    manifest: Path
    rows: int
    erased: int
    export_id: str | None = None


def render_dataset(lab: Lab, reference: str) -> Rendering:
    """Write, or write anew, the lab's own Parquet file of a dataset; return where it lies."""
    record = get_dataset(lab, reference)
    return _write(lab, record, lab.layout.payloads / _FOLDER, record.dataset_id)


def export_dataset(
    lab: Lab, reference: str, directory: Path, *, recipient: str, actor: str
) -> Rendering:
    """Write a dataset to a folder of the user's, after putting on the record that it leaves.

    `recipient` says whom it is for, and stands in the ledger: name a team or a system, no person.
    Raises Conflict when a file of that name is there.
    """
    if not recipient.strip():
        raise InputError("an export names its recipient", hint="A team or a system: --to audit")
    record = get_dataset(lab, reference)
    stem = f"{record.name}-{record.number}"
    if (directory / f"{stem}.parquet").exists():
        raise Conflict(f"{directory / stem}.parquet exists", hint="Choose another folder.")
    query = select(dataset_rows.c.item_id).where(dataset_rows.c.dataset_id == record.dataset_id)
    with lab.writing() as connection:
        named = sorted(connection.execute(query.distinct()).scalars())
        facts = {"dataset_id": record.dataset_id, "recipient": recipient, "items": len(named)}
        entry = Entry(lab, connection, "dataset.exported", actor, facts)
        row = {"export_id": new_id("exp"), "kind": "dataset", "recipient": recipient}
        said = {"item_ids": encode_text(named), "created_at": entry.at, "created_by": actor}
        entry.insert(exports, row | said)
        entry.close()
    publish(lab)
    return _write(lab, record, directory, stem, export_id=row["export_id"])


def render_again(lab: Lab, item_ids: Sequence[str]) -> list[Rendering]:
    """Make the lab's own renderings anew that hold one of these items; erasure calls it.

    Copies outside the lab are named by `exports`; nobody can reach into them.
    """
    touched: set[str] = set()
    with lab.reading() as connection:
        for part in pieces(item_ids):
            query = select(dataset_rows.c.dataset_id).where(dataset_rows.c.item_id.in_(part))
            touched.update(connection.execute(query.distinct()).scalars())
    folder = lab.layout.payloads / _FOLDER
    there = [one for one in sorted(touched) if (folder / f"{one}.parquet").exists()]
    return [render_dataset(lab, dataset_id) for dataset_id in there]


def canonical_lines(lab: Lab, table: Table, owner_id: str) -> Iterator[bytes]:
    """Yield the small rows of a list as canonical JSON, one line each, for a verifier.

    ``{"commitment": …, "row": {…}, "salt": hex}``: the commitment is the HMAC-SHA-256 of the row's
    canonical form under the salt, and the list's root is the RFC 6962 root over the commitments. Of
    an erased item only the commitment is left; row and salt are null.
    """
    for page in pages(lab, table, ROOTED[table.name].owner_key, owner_id):
        with lab.reading() as connection:
            known = Salts(connection)
            known.fetch([row["item_id"] for row in page])
            for row in page:
                salt = known.get(row["item_id"])
                plain = {key: row[key] for key in row if key != "commitment"}
                line = {
                    "commitment": row["commitment"],
                    "row": None if salt is None else plain,
                    "salt": None if salt is None else salt.hex(),
                }
                yield encode(line) + b"\n"


def _write(
    lab: Lab, record: DatasetRecord, folder: Path, stem: str, export_id: str | None = None
) -> Rendering:
    parquet, manifest = folder / f"{stem}.parquet", folder / f"{stem}.manifest.json"
    with atomic_writer(parquet, mode=0o600) as file:
        written = _write_rows(lab, record, file)
    said = {"dataset": record.label, "dataset_id": record.dataset_id, "task": record.task}
    made = {"contract_digest": record.contract_digest, "created_at": record.created_at}
    document = said | made | {"rows_here": written, "manifest": record.manifest}
    write_atomically(manifest, encode(document) + b"\n", mode=0o600)
    return Rendering(parquet, manifest, written, record.rows - written, export_id)


def _write_rows(lab: Lab, record: DatasetRecord, file: IO[bytes]) -> int:
    """Write the rows that still have content, a page at a time; return how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(lab, record)
    written = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for page in pages(lab, dataset_rows, "dataset_id", record.dataset_id):
            with lab.reading() as connection:
                rows = _readable(lab, connection, page)
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            written += len(rows)
    return written


def _readable(lab: Lab, connection: Connection, page: Sequence[RowMapping]) -> list[dict[str, Any]]:
    ids = [row["item_id"] for row in page]
    texts = item_texts(lab, connection, ids)
    query = select(items.c.item_id, items.c.source, items.c.external_id)
    known = {row.item_id: row for row in connection.execute(query.where(items.c.item_id.in_(ids)))}
    kept = ("row_id", "item_id", "kind", "split", "label_id", "generator_model")
    terms = ("licence", "consent_basis", "commitment")
    return [
        {key: row[key] for key in (*kept, *terms)}
        | {
            "text": texts[row["item_id"]],
            "value": decode(row["value"]),
            "weight": row["weight_ppb"] / PARTS_PER_BILLION,
            "reviews": json.loads(row["reviews"]),
            "parents": json.loads(row["parents"]),
            "source": known[row["item_id"]].source,
            "external_id": known[row["item_id"]].external_id,
        }
        for row in page
        if row["item_id"] in texts and row["value"] is not None
    ]


def _schema(lab: Lab, record: DatasetRecord) -> Any:
    import pyarrow as pa

    with lab.reading() as connection:
        query = select(contracts.c.contract).where(
            contracts.c.contract_digest == record.contract_digest
        )
        contract = decode(connection.execute(query).scalar_one())
    several = pa.list_(pa.string())
    value = several if contract["output"]["kind"] == "labels" else pa.string()
    names = ("row_id", "item_id", "kind", "split", "text")
    lineage = ("licence", "consent_basis", "source", "external_id", "generator_model", "commitment")
    fields = [(name, pa.string()) for name in names]
    fields += [("value", value), ("weight", pa.float64()), ("label_id", pa.string())]
    fields += [("reviews", several), ("parents", several)]
    fields += [(name, pa.string()) for name in lineage]
    described = {"freehold.dataset": record.label, "freehold.root": record.root}
    return pa.schema(fields, metadata=described)
