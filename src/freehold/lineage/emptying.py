"""The first half of an erasure, one transaction: what the database holds about items goes.

Payload bytes and personal columns are emptied, salts destroyed, subjects unlinked, open reviews
dropped. What is left of each row is bound anew by the entry that names the erased items, so that
the ledger still covers all of it. A mark stays behind until the second half, the files, is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from freehold.canonical.json import decode, encode_text
from freehold.evidence.emptied import ERASED, emptied
from freehold.evidence.entries import Entry
from freehold.lab.opened import Lab
from freehold.lab.schema import (
    COMMITTED,
    ERASURES_UNFINISHED,
    ROOTED,
    assignments,
    erasures,
    item_subjects,
    items,
    lab_info,
    payloads,
    salts,
)
from freehold.lineage.reach import Reach, pieces
from freehold.records.ids import new_id

ITEMS_AT_ONCE = 200
_ROWS_PER_ENTRY = 150


@dataclass(frozen=True, slots=True)
class Order:
    """Who asks for an erasure, why, and about whom. The reason is kept: it names nobody."""

    reason: str
    actor: str
    subject_key: str | None = None


def tables_about_items() -> list[Table]:
    """Return every table that holds rows about items, bound by the ledger."""
    tables = [spec.table for spec in COMMITTED.values() if spec.salted]
    return tables + [spec.table for spec in ROOTED.values() if "item_id" in spec.table.columns]


def empty_items(lab: Lab, item_ids: Sequence[str], order: Order, reach: Reach) -> str:
    """Erase up to `ITEMS_AT_ONCE` items from the database in one transaction; return its id.

    Ledger: ``item.erased`` entries, as many as the rows need, each naming all the items.
    """
    erasure_id = new_id("era")
    with lab.writing() as connection:
        body = {"erasure_id": erasure_id, "item_ids": list(item_ids)}
        first = Entry(lab, connection, ERASED, order.actor, body)
        counts = {
            table.name: _empty_table(connection, table, item_ids, first.at)
            for table in tables_about_items()
        }
        counts[payloads.name] = _destroy(connection, item_ids, first.at)
        told = reach.record()
        kept = {name: encode_text(told.pop(name)) for name in ("datasets", "models", "exports")}
        said = {"erasure_id": erasure_id, "subject_key": order.subject_key}
        said |= {"item_ids": encode_text(list(item_ids)), "reason": order.reason}
        said |= {"reached": encode_text(told | {"rows": counts})}
        first.insert(erasures, said | kept | {"created_at": first.at, "created_by": order.actor})
        first.close()
        for part in _remains(connection, item_ids):
            entry = Entry(lab, connection, ERASED, order.actor, body)
            for table, rows in part:
                entry.bind_emptied(table, rows)
            entry.close()
        _mark(connection, [*unfinished(connection), erasure_id])
    return erasure_id


def unfinished(connection: Connection) -> list[str]:
    """Return the erasures whose files have still to be removed."""
    query = select(lab_info.c.value).where(lab_info.c.key == ERASURES_UNFINISHED)
    marked = connection.execute(query).scalar()
    return [] if marked is None else list(decode(marked))


def mark_finished(connection: Connection, erasure_ids: Sequence[str]) -> None:
    """Take the mark off erasures whose files are gone."""
    _mark(connection, [one for one in unfinished(connection) if one not in erasure_ids])


def items_of(connection: Connection, erasure_ids: Sequence[str]) -> list[str]:
    """Return the items that erasures named."""
    found: list[str] = []
    for part in pieces(erasure_ids):
        query = select(erasures.c.item_ids).where(erasures.c.erasure_id.in_(part))
        for named in connection.execute(query).scalars():
            found += decode(named)
    return found


def _empty_table(connection: Connection, table: Table, item_ids: Sequence[str], at: str) -> int:
    count = 0
    more = {"erased_at": at} if table is items else {}
    if table is items:  # each gets a neutral name of its own, for names are unique
        for item_id in item_ids:
            mine = update(table).where(table.c.item_id == item_id)
            connection.execute(mine.values(**emptied(table, item_id), **more))
        return len(item_ids)
    values = emptied(table, "")
    for part in pieces(item_ids):
        condition = table.c.item_id.in_(part)
        if values:
            count += connection.execute(update(table).where(condition).values(**values)).rowcount
    return count


def _destroy(connection: Connection, item_ids: Sequence[str], at: str) -> int:
    """Destroy salts, payload bytes and the links to subjects; return how many payloads."""
    count = 0
    for part in pieces(item_ids):
        connection.execute(
            update(salts).where(salts.c.item_id.in_(part)).values(salt=None, destroyed_at=at)
        )
        gone = update(payloads).where(payloads.c.item_id.in_(part), payloads.c.erased_at.is_(None))
        count += connection.execute(gone.values(bytes=None, erased_at=at)).rowcount
        connection.execute(delete(item_subjects).where(item_subjects.c.item_id.in_(part)))
        waiting = assignments.c.item_id.in_(part) & assignments.c.state.in_(("open", "taken"))
        connection.execute(update(assignments).where(waiting).values(state="dropped"))
    return count


def _remains(
    connection: Connection, item_ids: Sequence[str]
) -> Iterator[list[tuple[Table, list[dict[str, Any]]]]]:
    """Yield what is left of the items' rows, in parts that fit into one entry each."""
    part: list[tuple[Table, list[dict[str, Any]]]] = []
    size = 0
    for table in tables_about_items():
        rows = [
            dict(row)
            for some in pieces(item_ids)
            for row in connection.execute(select(table).where(table.c.item_id.in_(some))).mappings()
        ]
        for start in range(0, len(rows), _ROWS_PER_ENTRY):
            some_rows = rows[start : start + _ROWS_PER_ENTRY]
            if size + len(some_rows) > _ROWS_PER_ENTRY:
                yield part
                part, size = [], 0
            part.append((table, some_rows))
            size += len(some_rows)
    if part:
        yield part


def _mark(connection: Connection, erasure_ids: Sequence[str]) -> None:
    connection.execute(delete(lab_info).where(lab_info.c.key == ERASURES_UNFINISHED))
    if erasure_ids:
        value = encode_text(list(erasure_ids))
        connection.execute(insert(lab_info).values(key=ERASURES_UNFINISHED, value=value))
