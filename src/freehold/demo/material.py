"""The labelled file that a loop runs on: which rows are reviewed, which judge.

The file's own split is used where it has one; otherwise whole entities go to test by a keyed hash,
so that no customer is on both sides.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from freehold.errors import InputError
from freehold.tabular import SYNONYMS, Row, find_columns, open_table, write_table
from freehold.tasks.definition import Wording
from freehold.workflows.rows import ROLES

TEST_PERCENT = 30
_MOST_LABELS = 200


@dataclass(frozen=True)
class Labelled:
    """One row: text, the answer key's label, the entity it belongs to, and its split."""

    id: str
    text: str
    label: str
    entity: str
    split: str


@dataclass(frozen=True)
class Material:
    """All rows of a file that can be used, and what was said about the others."""

    name: str
    rows: tuple[Labelled, ...]
    labels: tuple[str, ...]
    bad_rows: int
    split_rule: str
    synthetic: bool

    def of(self, split: str) -> tuple[Labelled, ...]:
        """Return the rows of one split, in the file's order."""
        return tuple(row for row in self.rows if row.split == split)


def shipped_file() -> Path:
    """Return the synthetic data set that comes with Freehold."""
    return Path(str(resources.files("freehold.experiments") / "data" / "support_requests.csv"))


def read_material(
    path: Path | None = None, *, text: str | None = None, label: str | None = None
) -> Material:
    """Read a labelled file; columns are found by name or content, or named.

    Raises InputError for a file without two labels that each have several rows.
    """
    file = path or shipped_file()
    table = open_table(file)
    wanted = {**ROLES, "label": SYNONYMS["label"]}
    optional = tuple(role for role in wanted if role not in ("text", "label"))
    columns = find_columns(table, wanted, {"text": text, "label": label}, optional=optional)
    rows: list[Labelled] = []
    bad = 0
    for row in table:
        taken = _labelled(row, columns) if isinstance(row, Row) else None
        if taken is None:
            bad += 1
        else:
            rows.append(taken)
    counts = Counter(row.label for row in rows)
    labels = tuple(sorted(counts))
    if len(labels) < 2 or len(rows) < 40 or len(labels) > _MOST_LABELS:
        raise InputError(
            f"{file.name} has {len(rows)} usable rows with {len(labels)} labels; the loop needs "
            f"40 rows or more and 2 to {_MOST_LABELS} labels",
            hint="Name the columns: --text-column NAME --label-column NAME.",
        )
    given = "split" in columns
    return Material(
        file.name, tuple(rows), labels, bad, "given" if given else "entity hash", path is None
    )


def choose(rows: Sequence[Labelled], count: int, seed: int) -> list[Labelled]:
    """Return `count` rows drawn by lot, in the file's order; all of them where there are fewer."""
    if count >= len(rows):
        return list(rows)
    places = sorted(random.Random(seed).sample(range(len(rows)), count))  # noqa: S311 - a lot, no secret
    return [rows[place] for place in places]


def shuffled(rows: Sequence[Labelled], seed: int) -> list[Labelled]:
    """Return the same rows with their labels dealt out by lot."""
    labels = [row.label for row in rows]
    random.Random(seed).shuffle(labels)  # noqa: S311 - a lot, no secret
    return [
        Labelled(row.id, row.text, label, row.entity, row.split)
        for row, label in zip(rows, labels, strict=True)
    ]


def write_rows(path: Path, rows: Sequence[Labelled], *, with_label: bool) -> Path:
    """Write rows as a CSV that `run` and `review import` read."""
    columns = ["id", "text", "entity", "split"] + (["label"] if with_label else [])
    write_table(path, ({name: getattr(row, name) for name in columns} for row in rows), columns)
    return path


def _labelled(row: Row, columns: Any) -> Labelled | None:
    def value(role: str) -> str:
        name = columns.get(role)
        given = row.values.get(name) if name else None
        return "" if given is None else str(given).strip()

    text, label = value("text"), value("label")
    if not text or not label:
        return None
    identity = value("id") or f"row:{row.line}"
    entity = value("entity") or identity
    return Labelled(identity, text, label, entity, value("split") or _by_hash(entity))


def _by_hash(entity: str) -> str:
    place = int.from_bytes(hashlib.sha256(entity.encode()).digest()[:4], "big") % 100
    return "test" if place < TEST_PERCENT else "train"


def shipped_wording() -> Wording:
    """Return what the labels of the shipped file mean, as its makers would tell a newcomer."""
    return Wording(
        instructions="Which queue of our customer service does this request belong to?",
        guidelines="When a request names two matters, what is asked for decides.",
        options={
            "cancel_order": "the customer wants to cancel or stop an order",
            "change_of_details": "an address, contact or bank detail is to be changed",
            "device_fault": "a measuring device does not work or shows wrong readings",
            "invoice_question": "a question about an invoice, an amount or a payment",
            "late_delivery": "a parcel or order has not arrived in time",
            "price_and_availability": "a question about prices, stock or delivery times",
            "refund": "the customer wants money back",
            "wrong_or_damaged_goods": "the delivery was wrong, incomplete or damaged",
        },
    )
