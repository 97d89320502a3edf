"""The table that a run gives back: one row per item, in the order of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from freehold.canonical.json import from_ppb
from freehold.lab.opened import Lab
from freehold.lab.schema import decisions, items
from freehold.tabular import write_table
from freehold.tasks.answering import as_text
from freehold.workflows.items import item_texts

COLUMNS = ("id", "value", "probability", "state", "error", "decision_id")
_AT_ONCE = 500


def write_output(
    lab: Lab, workflow_run: str, item_ids: Sequence[str], path: Path, *, with_text: bool = False
) -> int:
    """Write the latest decision of each item of a run; the file appears whole or not at all.

    `probability` is that of the answer; for labels, of the least sure of them. Returns the rows.
    """
    columns = ("id", "text", *COLUMNS[1:]) if with_text else COLUMNS
    rows = _rows(lab, workflow_run, item_ids, with_text=with_text)
    return write_table(path, rows, columns)


def _rows(
    lab: Lab, workflow_run: str, item_ids: Sequence[str], *, with_text: bool
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(item_ids), _AT_ONCE):
        some = item_ids[start : start + _AT_ONCE]
        with lab.reading() as connection:
            names = {
                row.item_id: row.external_id
                for row in connection.execute(
                    select(items.c.item_id, items.c.external_id).where(items.c.item_id.in_(some))
                )
            }
            texts = item_texts(lab, connection, some) if with_text else {}
            # Ordered, so that of several decisions on one item the latest stands last.
            found = {
                row["item_id"]: row
                for row in connection.execute(
                    select(decisions)
                    .where(decisions.c.workflow_run == workflow_run, decisions.c.item_id.in_(some))
                    .order_by(decisions.c.number)
                ).mappings()
            }
        for item_id in some:
            row = _row(found.get(item_id)) | {"id": names.get(item_id)}
            yield row | ({"text": texts.get(item_id)} if with_text else {})


def _row(decision: Any) -> dict[str, Any]:
    if decision is None:
        return {"state": "erased"}
    row = {name: decision[name] for name in ("state", "error", "decision_id")}
    if decision["value"] is not None:
        value = json.loads(decision["value"])
        row |= {"value": as_text(value), "probability": _probability(decision, value)}
    return row


def _probability(decision: Any, value: Any) -> float:
    shares: dict[str, int] = json.loads(decision["probabilities"])
    if isinstance(value, list):
        # An answer of several labels is as sure as the least sure yes or no in it.
        return from_ppb(
            min(s if name in value else 1_000_000_000 - s for name, s in shares.items())
        )
    return from_ppb(shares.get(value, max(shares.values())))
