"""Small labelled files for the tests of datasets and suites."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import select, update

from freehold.evidence.emptied import emptied
from freehold.lab import Lab
from freehold.lab.schema import dataset_rows, items, labels, payloads, salts, suite_cases

OPTIONS = ("refund", "card", "loan")
TOPICS = (  # under 13 words, so that no two rows share a run
    "the parcel that never came to our door",
    "a card that the machine kept",
    "what the bank charges for money sent abroad",
    "how long a loan may run",
    "an invoice with somebody else's address",
    "the shop that took the price twice",
    "codes sent to the old phone number",
    "why the app asks for a photograph",
)


def row(
    key: str, text: str, label: str = "refund", split: str = "train", **more: str
) -> dict[str, str]:
    """One row of a labelled file."""
    return {"id": key, "text": text, "label": label, "split": split, **more}


def some_rows(count: int, split: str = "train") -> list[dict[str, str]]:
    """Rows with texts that are no twins of each other."""
    return [
        row(f"{split}{n}", f"{split} {n * n + 7:x} {TOPICS[n % len(TOPICS)]} {n * 7919:x} {n}",
            OPTIONS[n % 3], split)
        for n in range(count)
    ]  # fmt: skip


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write rows to a CSV file and return its path; cells that a row lacks are empty."""
    listed = list(rows)
    names = list(dict.fromkeys(name for one in listed for name in one))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(listed)
    return path


def item_of(lab: Lab, key: str) -> str:
    """The id of the item that its source knows under a key."""
    with lab.reading() as connection:
        query = select(items.c.item_id).where(items.c.external_id == key)
        return str(connection.execute(query).scalar_one())


def blank_item(lab: Lab, item_id: str) -> None:
    """Do to an item what erasure does to its rows, without the ledger's part of it."""
    with lab.writing() as connection:
        for table in (items, labels, dataset_rows, suite_cases):
            values: dict[str, str | None] = dict(emptied(table, item_id))
            if table is items:
                values["erased_at"] = "2026-01-01T00:00:00.000000Z"
            connection.execute(update(table).where(table.c.item_id == item_id).values(**values))
        destroyed = {"salt": None, "destroyed_at": "2026-01-01T00:00:00.000000Z"}
        connection.execute(update(salts).where(salts.c.item_id == item_id).values(**destroyed))
        gone = {"bytes": None, "erased_at": "2026-01-01T00:00:00.000000Z"}
        connection.execute(update(payloads).where(payloads.c.item_id == item_id).values(**gone))
