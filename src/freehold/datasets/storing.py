"""Writing a frozen list: all of its rows, its root and its entry in one transaction.

Whatever can be worked out before is, so that the transaction holds only inserts: about a second
for 100,000 rows. A kill before its end leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import IntegrityError as RowExists

from freehold.canonical.json import decode
from freehold.datasets.gathering import pieces
from freehold.errors import LabBusy
from freehold.evidence.entries import Entry, Row, Salts, small_row_commitment
from freehold.lab.opened import Lab
from freehold.lab.schema import salts

_INSERTED_AT_ONCE = 2000
_RACES = 5


@dataclass(frozen=True, slots=True)
class Frozen:
    """A list that is ready to be written. `parts` are its small rows, committed, by table."""

    table: Table
    owner_key: str
    owner: Row  # without number, times and entry
    parts: tuple[tuple[Table, Sequence[Row]], ...]
    facts: dict[str, Any]

    @property
    def item_ids(self) -> list[str]:
        """Every item that one of the small rows names."""
        return sorted({str(row["item_id"]) for _, rows in self.parts for row in rows})


def committed(connection: Connection, table: Table, rows: Iterable[Row]) -> list[Row] | None:
    """Return complete rows with their commitments; None when an item was erased meanwhile."""
    known = Salts(connection)
    empty: Row = {column.name: None for column in table.columns}
    listed = [empty | row for row in rows]
    known.fetch(dict.fromkeys(str(row["item_id"]) for row in listed))
    for row in listed:
        salt = known.get(row["item_id"])
        if salt is None:
            return None
        row["commitment"] = small_row_commitment(table, row, salt)
    return listed


def write_frozen(lab: Lab, frozen: Frozen, kind: str, actor: str) -> Row | None:
    """Write a list under the next number of its name and return its row.

    None when an item was erased since the rows were made: the caller makes them again. Raises
    LabBusy when other processes took the number again and again.
    """
    for _ in range(_RACES):
        try:
            with lab.writing() as connection:
                return _write(lab, connection, frozen, kind, actor)
        except RowExists:
            continue  # another process took this number
    raise LabBusy(f"other processes keep building {frozen.owner['name']!r}; nothing was written")


def find_same(connection: Connection, table: Table, name: str, content: str) -> Row | None:
    """Return the newest version of a name whose manifest states this content, or None."""
    query = select(table).where(table.c.name == name).order_by(table.c.number.desc())
    for row in connection.execute(query).mappings():
        if decode(row["manifest"])["content"] == content:
            return dict(row)
    return None


def until_stable(attempt: Callable[[], Row | None]) -> Row:
    """Return what `attempt` wrote; try again while items are being erased under it."""
    for _ in range(_RACES):
        row = attempt()
        if row is not None:
            return row
    raise LabBusy("items are being erased while this list is frozen; nothing was written")


def _write(lab: Lab, connection: Connection, frozen: Frozen, kind: str, actor: str) -> Row | None:
    if _any_erased(connection, frozen.item_ids):
        return None
    table, owner_id = frozen.table, str(frozen.owner[frozen.owner_key])
    newest = select(func.max(table.c.number)).where(table.c.name == frozen.owner["name"])
    number = (connection.execute(newest).scalar() or 0) + 1
    entry = Entry(lab, connection, kind, actor, {**frozen.facts, "number": number})
    for part, rows in frozen.parts:
        for piece in pieces(rows, _INSERTED_AT_ONCE):
            connection.execute(insert(part), list(piece))
        entry.bind_root(part, owner_id, [row["commitment"] for row in rows])
    stamped = {"number": number, "created_at": entry.at, "created_by": actor}
    row = entry.insert(table, frozen.owner | stamped)
    entry.close()
    return row


def _any_erased(connection: Connection, item_ids: Sequence[str]) -> bool:
    for part in pieces(item_ids):
        # Locked to the end of the transaction: an erasure comes after it and sees the rows.
        query = select(salts.c.salt).where(salts.c.item_id.in_(part)).with_for_update(read=True)
        found = connection.execute(query).scalars().all()
        if len(found) < len(part) or any(salt is None for salt in found):
            return True
    return False
