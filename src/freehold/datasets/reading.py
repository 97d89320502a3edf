"""Reading datasets: their rows with texts, what they are made of, how two of them differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from freehold.canonical.json import PARTS_PER_BILLION, decode
from freehold.datasets.gathering import READ_AT_ONCE
from freehold.errors import NotFound
from freehold.lab.opened import Lab
from freehold.lab.schema import dataset_exclusions, datasets, items, labels
from freehold.lab.schema import dataset_rows as row_table
from freehold.workflows.items import item_texts


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """One version of a dataset. `is_new` is true only where this very call has built it."""

    dataset_id: str
    name: str
    number: int
    task: str
    contract_digest: str
    root: str
    rows: int
    manifest: dict[str, Any]
    created_at: str
    created_by: str
    is_new: bool = False

    @property
    def label(self) -> str:
        """How people name this version: ``name@number``."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """One row with its text. `value` is an option, a list of options, or a decimal string."""

    row_id: str
    item_id: str
    text: str
    value: str | list[str]
    weight: Decimal


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What a dataset is made of. `left_out` counts by reason; `erased` rows are empty now."""

    record: DatasetRecord
    splits: dict[str, int]
    values: dict[str, dict[str, int]]  # split → value → rows
    bases: dict[str, int]
    licences: dict[str, int]
    consent_bases: dict[str, int]
    left_out: dict[str, int]
    erased: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is said of one item before and after; None where it is not said at all."""

    item_id: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """How one dataset differs from another, by item.

    `added` and `removed` tell the reason for which the item was, or is now, left out, where one is
    recorded. `relabelled` are values that changed; `supported_anew` are rows whose value stayed and
    whose label has a new version (another review). `exclusions` are items in neither whose reason
    changed.
    """

    before: DatasetRecord
    after: DatasetRecord
    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    relabelled: tuple[Change, ...]
    supported_anew: tuple[Change, ...]
    moved: tuple[Change, ...]  # to another split
    exclusions: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether rows, labels, splits and exclusions are the same."""
        changes = (self.added, self.removed, self.relabelled, self.supported_anew, self.moved)
        return not any((*changes, self.exclusions))


def dataset_record(row: Mapping[Any, Any]) -> DatasetRecord:
    """Return the record of a row of the table ``datasets``."""
    kept = {key: row[key] for key in row if key not in ("schema_version", "entry_id")}
    return DatasetRecord(**kept | {"manifest": decode(row["manifest"])})


def get_dataset(lab: Lab, reference: str) -> DatasetRecord:
    """Return a dataset by id, by ``name@number``, or by name (its newest version)."""
    with lab.reading() as connection:
        row = connection.execute(by_reference(datasets, reference)).mappings().first()
    if row is None:
        known = ", ".join(sorted({one.name for one in list_datasets(lab)})) or "none"
        raise NotFound(f"no dataset {reference!r}; this lab has: {known}")
    return dataset_record(row)


def list_datasets(lab: Lab, task: str | None = None) -> list[DatasetRecord]:
    """Return every version of every dataset, oldest first."""
    query = select(datasets).order_by(datasets.c.created_at, datasets.c.dataset_id)
    if task is not None:
        query = query.where(datasets.c.task == task)
    with lab.reading() as connection:
        return [dataset_record(row) for row in connection.execute(query).mappings()]


def dataset_rows(lab: Lab, dataset_id: str, split: str | None = None) -> Iterator[DatasetRow]:
    """Yield the rows of a dataset, or of one split of it, in their order.

    Rows of items that were erased since are left out; `show_dataset` counts them. Each page is a
    transaction of its own: the rows of a dataset never change.
    """
    for page in pages(lab, row_table, "dataset_id", dataset_id):
        wanted = [row for row in page if split in (None, row["split"])]
        with lab.reading() as connection:
            texts = item_texts(lab, connection, [row["item_id"] for row in wanted])
        for row in wanted:
            if row["item_id"] in texts and row["value"] is not None:
                weight = Decimal(row["weight_ppb"]) / PARTS_PER_BILLION
                value = decode(row["value"])
                yield DatasetRow(
                    row["row_id"], row["item_id"], texts[row["item_id"]], value, weight
                )


def show_dataset(lab: Lab, reference: str) -> DatasetSummary:
    """Return what a dataset is made of."""
    record = get_dataset(lab, reference)
    with lab.reading() as connection:
        query = (
            select(row_table, labels.c.basis, items.c.erased_at)
            .join_from(row_table, items, row_table.c.item_id == items.c.item_id)
            .outerjoin(labels, labels.c.label_id == row_table.c.label_id)
            .where(row_table.c.dataset_id == record.dataset_id)
        )
        rows = connection.execute(query).all()
        left_out = Counter(_reasons(connection, record).values())
    values: dict[str, Counter[str]] = {}
    for row in rows:
        if row.value is not None:
            value = decode(row.value)
            shown = value if isinstance(value, str) else " | ".join(value)
            values.setdefault(row.split, Counter())[shown] += 1
    return DatasetSummary(
        record=record,
        splits=dict(Counter(row.split for row in rows)),
        values={split: dict(counts) for split, counts in values.items()},
        bases=dict(Counter(row.basis for row in rows)),
        licences=dict(Counter(row.licence or "not stated" for row in rows)),
        consent_bases=dict(Counter(row.consent_basis or "not stated" for row in rows)),
        left_out=dict(left_out),
        erased=sum(row.erased_at is not None for row in rows),
    )


def diff_datasets(lab: Lab, before: str, after: str) -> DatasetDiff:
    """Return how the dataset `after` differs from `before`, item by item."""
    old, new = get_dataset(lab, before), get_dataset(lab, after)
    with lab.reading() as connection:
        was, now = _by_item(connection, old), _by_item(connection, new)
        was_out, now_out = _reasons(connection, old), _reasons(connection, new)
    both = [item for item in was if item in now]
    changed = [item for item in both if was[item]["label_id"] != now[item]["label_id"]]
    pairs = {item: (was[item]["value"], now[item]["value"]) for item in changed}
    out = [i for i in {**was_out, **now_out} if i not in was and i not in now]
    return DatasetDiff(
        before=old,
        after=new,
        added=tuple(Change(i, was_out.get(i), "row") for i in now if i not in was),
        removed=tuple(Change(i, "row", now_out.get(i)) for i in was if i not in now),
        relabelled=tuple(Change(i, *pair) for i, pair in pairs.items() if pair[0] != pair[1]),
        supported_anew=tuple(
            Change(i, was[i]["label_id"], now[i]["label_id"])
            for i, pair in pairs.items()
            if pair[0] == pair[1]
        ),
        moved=tuple(
            Change(i, was[i]["split"], now[i]["split"])
            for i in both
            if was[i]["split"] != now[i]["split"]
        ),
        exclusions=tuple(
            Change(i, was_out.get(i), now_out.get(i))
            for i in out
            if was_out.get(i) != now_out.get(i)
        ),
    )


def by_reference(table: Table, reference: str) -> Select[Any]:
    """Return the query for one version of a dataset or suite: id, ``name@number`` or name."""
    key = next(iter(table.primary_key)).name
    name, at, number = reference.rpartition("@")
    if at and number.isdecimal():
        return select(table).where(table.c.name == name, table.c.number == int(number))
    return (
        select(table)
        .where((table.c[key] == reference) | (table.c.name == reference))
        .order_by(table.c.number.desc())
        .limit(1)
    )


def pages(lab: Lab, table: Table, owner_key: str, owner_id: str) -> Iterator[list[RowMapping]]:
    """Yield the small rows of a frozen list in their order, some hundreds at a time."""
    start = 0
    while True:
        query = select(table).where(
            table.c[owner_key] == owner_id,
            table.c.position >= start,
            table.c.position < start + READ_AT_ONCE,
        )
        with lab.reading() as connection:
            page = list(connection.execute(query.order_by(table.c.position)).mappings())
        if not page:
            return
        yield page
        start += READ_AT_ONCE


def _by_item(connection: Connection, record: DatasetRecord) -> dict[str, RowMapping]:
    query = (
        select(row_table.c.item_id, row_table.c.label_id, row_table.c.value, row_table.c.split)
        .where(row_table.c.dataset_id == record.dataset_id)
        .order_by(row_table.c.position)
    )
    return {row["item_id"]: row for row in connection.execute(query).mappings()}


def _reasons(connection: Connection, record: DatasetRecord) -> dict[str, str]:
    query = select(dataset_exclusions.c.item_id, dataset_exclusions.c.reason).where(
        dataset_exclusions.c.dataset_id == record.dataset_id
    )
    return {row.item_id: row.reason for row in connection.execute(query)}
