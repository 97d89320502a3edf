"""A lab's tables as canonical JSON Lines: what makes a bundle restorable, one file for each table.

A line is a row with all its columns; bytes are base64. What belongs to one machine (leases, jobs)
or is derived (the ledger's own tables, from ``ledger/``) is not exported.

Without payloads a bundle says what the lab would say if every item had been erased: payloads,
salts and the personal columns are empty, so that the commitments in the ledger stay and are mute.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, LargeBinary, Table, insert, select

from freehold.canonical.json import decode
from freehold.errors import FreeholdError, IntegrityError
from freehold.evidence.emptied import emptied
from freehold.lab.schema import COMMITTED, ROOTED, metadata

_NOT_EXPORTED: Final = {
    "lab_info",
    "leases",
    "jobs",
    "ledger_pending",
    "ledger_entries",
    "ledger_checkpoints",
}
_NAMES_OF_PEOPLE: Final = {"principal_names", "item_subjects"}
_AT_ONCE: Final = 500

Row = dict[str, Any]


def exported_tables() -> list[Table]:
    """Return the tables of a bundle's state, by name."""
    return sorted(
        (table for table in metadata.tables.values() if table.name not in _NOT_EXPORTED),
        key=lambda table: table.name,
    )


def export_rows(
    connection: Connection, table: Table, *, emptied_at: str | None = None
) -> Iterator[Row]:
    """Yield a table's rows in the order of its key; emptied of what is personal where asked."""
    if emptied_at is not None and table.name in _NAMES_OF_PEOPLE:
        return
    query = select(table).order_by(*table.primary_key.columns)
    streaming = connection.execution_options(yield_per=_AT_ONCE)
    for row in streaming.execute(query).mappings():
        plain = dict(row)
        if emptied_at is not None:
            _empty(table, plain, emptied_at)
        yield {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in plain.items()
        }


def read_rows(path: Path, table: Table) -> Iterator[Row]:
    """Yield the rows of an exported table as the database takes them.

    Raises IntegrityError naming file and line where a row has other columns than the table.
    """
    binary = {column.name for column in table.columns if isinstance(column.type, LargeBinary)}
    names = {column.name for column in table.columns}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = decode(line.removesuffix(b"\n"))
                if not isinstance(row, dict) or set(row) != names:
                    raise IntegrityError("it has not the columns of the table")
                for name in binary & {name for name, value in row.items() if value is not None}:
                    row[name] = base64.b64decode(row[name], validate=True)
            except (FreeholdError, ValueError) as error:
                raise IntegrityError(
                    f"{path.name}:{number}: {error}", file=f"state/{path.name}", line=number
                ) from error
            yield row


def import_rows(connection: Connection, table: Table, rows: Iterable[Row]) -> int:
    """Insert rows into a table in batches; return how many."""
    source, count = iter(rows), 0
    while some := list(islice(source, _AT_ONCE)):
        connection.execute(insert(table), some)
        count += len(some)
    return count


def _empty(table: Table, row: Row, at: str) -> None:
    if (table.name in COMMITTED or table.name in ROOTED) and "item_id" in row:
        row.update(emptied(table, str(row["item_id"])))
    if table.name == "salts" and row["salt"] is not None:
        row |= {"salt": None, "destroyed_at": at}
    elif table.name == "payloads" and row["erased_at"] is None:
        row |= {"bytes": None, "erased_at": at}
    elif table.name == "items" and row["erased_at"] is None:
        row["erased_at"] = at
