"""Reviews leave the lab in a file, and the lab remembers what left and to whom.

The file is written beside its place first, then the export is put on the record, and only then does
the file appear: nothing ever leaves unrecorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from freehold.canonical.json import decode, encode_text
from freehold.errors import InputError
from freehold.evidence.entries import Entry
from freehold.evidence.sequencer import publish
from freehold.lab.opened import Lab
from freehold.lab.schema import exports, items, principal_names, reviews
from freehold.records.ids import new_id
from freehold.review.annotations import write_annotations
from freehold.review.tables import EXPORT_COLUMNS
from freehold.tabular import write_table
from freehold.tabular.tables import FORMATS
from freehold.tabular.writing import replacing
from freehold.tasks.contract import Task, load_task
from freehold.workflows.items import item_texts

_AS_RECORDED = (
    "review_id", "item_source", "kind", "reason", "milliseconds_spent", "stream", "propensity_ppb",
    "population", "policy", "contract_digest", "submitted_at", "superseded_by",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exported:
    """What left: the record's id, how many reviews, of how many items."""

    export_id: str
    reviews: int
    items: int


def export_reviews(
    lab: Lab,
    task_name: str,
    path: Path,
    *,
    actor: str,
    recipient: str,
    format: str | None = None,  # noqa: A002 - the word that users say
    history: bool = False,
) -> Exported:
    """Write the standing reviews of a task (with `history`, all of them) to a file.

    The format is told by the file's name, or named: csv, jsonl, parquet, xlsx or label_studio.
    Reviewers stand under their names, where those are known. Raises InputError without a recipient.
    """
    path, task = Path(path), load_task(lab, task_name)
    if not recipient.strip():
        raise InputError("an export names who receives it")
    kind = format or FORMATS.get(path.suffix.lower())
    with lab.reading() as connection:
        rows = _rows(lab, connection, task, history=history)
    with replacing(path) as scratch:
        if kind == "label_studio":
            write_annotations(scratch, task, _standing_only(rows))
        else:
            write_table(scratch, rows, EXPORT_COLUMNS, kind)
        item_ids = sorted({row["freehold_item"] for row in rows})
        export_id = _record(lab, task, item_ids, recipient, actor)
    publish(lab)
    return Exported(export_id, len(rows), len(item_ids))


def _record(lab: Lab, task: Task, item_ids: Sequence[str], recipient: str, actor: str) -> str:
    with lab.writing() as connection:
        body = {"task": task.name, "items": len(item_ids), "what": "reviews"}
        entry = Entry(lab, connection, "reviews.exported", actor, body)
        row = {"export_id": new_id("exp"), "kind": "reviews", "recipient": recipient}
        row |= {"item_ids": encode_text(list(item_ids)), "created_by": actor}
        entry.insert(exports, row | {"created_at": entry.at})
        entry.close()
    return str(row["export_id"])


def _rows(lab: Lab, connection: Connection, task: Task, *, history: bool) -> list[dict[str, Any]]:
    query = (
        select(reviews, items.c.source.label("item_source"), items.c.external_id.label("item_name"))
        .join(items, items.c.item_id == reviews.c.item_id)
        .where(
            reviews.c.task == task.name,
            reviews.c.contract_digest == task.contract_digest,
            items.c.erased_at.is_(None),
        )
        .order_by(reviews.c.item_id, reviews.c.submitted_at, reviews.c.review_id)
    )
    if not history:
        query = query.where(reviews.c.superseded_by.is_(None))
    found = list(connection.execute(query).mappings())
    texts = item_texts(lab, connection, list(dict.fromkeys(row["item_id"] for row in found)))
    named = select(principal_names.c.principal_id, principal_names.c.name)
    names = {row.principal_id: row.name for row in connection.execute(named)}
    return [_row(row, texts[row["item_id"]], names) for row in found]


def _row(row: RowMapping, text: str, names: Mapping[str, str]) -> dict[str, Any]:
    value = None if row["value"] is None else decode(row["value"])
    return {name: row[name] for name in _AS_RECORDED} | {
        "freehold_item": row["item_id"],
        "id": row["item_name"],
        "text": text,
        "label": flat(value),
        "value": value,  # for Label Studio; no column of the tables
        "review_verdict": row["verdict"],
        "reviewer": names.get(row["principal_id"], row["principal_id"]),
        "shown_decisions": "|".join(decode(row["shown_decisions"])),
    }


def flat(value: Any) -> str | None:
    """Return a value as one cell: a set of labels joined by '|', the empty set as '|'."""
    if isinstance(value, list):
        return "|".join(value) or "|"
    return None if value is None else str(value)


def _standing_only(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # Label Studio has no place for what was superseded.
    return (row for row in rows if row["superseded_by"] is None)
